"""What a user reads when something goes wrong: one sentence with file or option, value and remedy."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from ..errors import UserError, memory_full, out_of_memory
from ..files.atomic import cache_dir, fitting_name, write_bytes
from ..files.project import PACKAGE

__all__ = ["chain", "known_message", "unexpected"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FREE = "free space there, or choose another folder, and repeat the command; to resume a run: resume=<its folder>"
# What torch and NumPy write when a disk is full, and the system's own words where only a text is left.
_CUT_SHORT = re.compile(
    r"PytorchStreamWriter failed|unexpected pos \d+ vs|\d+ requested and \d+ written"
    r"|No space left on device|Disk quota exceeded|File too large"
)
_NO_GPU_MEMORY = re.compile("CUDA error: out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED")
_WORKER = "Original Traceback (most recent call last):"  # begins the text of an error of a loading process


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that led to it, the last one first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def known_message(error: BaseException) -> str | None:
    """Return the sentence for the user, if the error or what led to it is of a known kind."""
    for cause in chain(error):
        message = _known_message(cause)
        if message is not None:
            return message
    return None


def _known_message(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, UserError):  # from a loading process the message comes with the process's own trace
        return text.rsplit("UserError: ", 1)[-1].strip()
    if out_of_memory(error):
        return memory_full(error)
    if isinstance(error, OmegaConfBaseException):
        return _of_config(error)
    if isinstance(error, OSError) and (message := _of_system(error)):
        return message
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(PACKAGE):
        return f"the Python package {error.name} is not installed here; pip install {error.name.partition('.')[0]}"
    if isinstance(error, UnicodeDecodeError):
        near = error.object[max(0, error.start - 20) : error.start + 20]
        return f"a text file is not {error.encoding}, near {near!r}; save it as UTF-8"
    if found := _CUT_SHORT.search(text):
        return f"a file could not be written completely ({found[0]}), because the disk is full; {_FREE}"
    if "Error(s) in loading state_dict" in text:
        first = " ".join(text.split("\n", 2)[1].split())
        return f"the checkpoint does not fit the net: {first} Use resume=RUN_FOLDER, or init_from=... for what fits"
    if process := re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", text):
        return (
            f"loading process {process[1]} was killed, most often because memory (or /dev/shm) is full; lower"
            " data.num_workers or data.batch_size and resume with resume=last, which starts at the last checkpoint"
        )
    if "parameters that were not used in producing the loss" in text:  # as Lightning puts it
        return (
            "the net has parameters that no output of the step used, so devices cannot exchange their gradients;"
            " leave them out, or set trainer.strategy=ddp_find_unused_parameters_true"
        )
    if re.search("Connection (closed|reset) by peer", text):
        return "another process of this run has ended; its message says why"
    if "Expected more than 1 value per channel when training" in text:
        return (
            "a batch norm sees one value per channel, since a single image has shrunk to a map of one pixel; raise"
            " data.batch_size or transforms.crop_size, or with trained weights set norms.freeze=statistics"
        )
    if type(error).__name__ == "OutOfMemoryError" or _NO_GPU_MEMORY.search(text):
        return (
            "the GPU's memory is full; lower data.batch_size or transforms.crop_size, or use"
            " trainer.precision=bf16-mixed"
        )
    return None


def _of_config(error: OmegaConfBaseException) -> str | None:
    text, option = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2], error.full_key
    if "Missing mandatory value" in text:
        if referred := re.search(r"Missing mandatory value: ([\w.]+)$", text):  # by another option
            option = referred[1]
        return f"{option} is not set; give it on the command line as {option}=..."
    if isinstance(error, InterpolationKeyError):
        other = re.search(r"Interpolation key '(.*)' not found", text)
        text = f"${{{other[1]}}} refers to an option that does not exist" if other else text
    elif not isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType | GrammarParseError):
        return None
    return rf"{option}: {text}; where ${{ is part of a name, write \${{"


def _of_system(error: OSError) -> str | None:
    number, strerror, file = error.errno, error.strerror, error.filename
    if number is None and (found := re.search(r"\[Errno (\d+)\] (.*?)(?:: '(.*)')?$", _last_line(str(error)))):
        number, strerror, file = int(found[1]), found[2], found[3]  # all that a loading process hands over
    if number in _NO_ROOM:
        return f"{file or 'a file'} cannot be written completely ({strerror}); {_FREE}"
    if number in (errno.EMFILE, errno.ENFILE):
        return f"{strerror}: lower data.num_workers, or raise the limit (ulimit -n) of {file or 'this process'}"
    if file is None:
        return None
    if number == errno.ENOENT:
        return f"{file}: {strerror}; check the path"
    if number == errno.ENAMETOOLONG:
        return f"{file}: {strerror}; choose a shorter one"
    return f"{file}: {strerror}; choose another place, or correct its permissions"


def unexpected(error: BaseException) -> str:
    """Save the trace of an error that no sentence is known for; return one that says where, and how to report it."""
    text = str(error)
    if _WORKER in text:
        said = _last_line(text)
    else:
        lines = text.strip().splitlines() or [""]
        said = f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
    place = _saved(error)
    if isinstance(error, OSError):
        return f"{said}; the system refused this; if you cannot tell why, report it with {place}"
    return f"{said}; this is a fault of semseg, please report it with {place}"


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1].strip()


def _saved(error: BaseException) -> str:
    trace = "".join(traceback.format_exception(error))
    content = f"{_about()}\n\n{trace}".encode(errors="backslashreplace")
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
    name = fitting_name("", f"{now}_{Path(sys.argv[0]).stem}_{os.getpid()}.txt")
    for folder in (cache_dir(), Path(tempfile.gettempdir()) / "semseg"):
        with contextlib.suppress(OSError):
            path = folder / "tracebacks" / name
            write_bytes(path, content)
            return str(path)
    sys.stderr.write(trace)
    return "the trace above, since it could not be saved"


def _about() -> str:
    """Versions, machine and command, or as much of them as can be found after the error."""
    try:
        from ..runtime.environment import environment  # imports torch, which may be what failed

        return json.dumps(environment(), indent=1)
    except Exception:
        return f"{sys.version}\n{sys.orig_argv}"
