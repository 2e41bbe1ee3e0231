"""The one exception that entry points print as a single line instead of a stack trace, and memory that ran out."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator

__all__ = ["UserError", "memory_full", "nearest", "noted", "out_of_memory", "printable"]

# What libraries write when main memory is full: NumPy, OpenCV, C++, torch, the C library.
_NO_MEMORY = re.compile(
    r"\bMemoryError\b|Unable to allocate \S+ \w+|Insufficient memory|Failed to allocate \d+ bytes|std::bad_alloc"
    r"|DefaultCPUAllocator|Cannot allocate memory|can't start new thread"
)


class UserError(Exception):
    """A mistake that the user can correct: its message names the file or option, the value, and the remedy."""


def nearest(word: str, choices: Iterable[str], *, cutoff: float = 0.5) -> str:
    """``" Did you mean 'x'?"`` for the choice most like ``word``; empty if none is ``cutoff`` (0..1) alike."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f" Did you mean '{close[0]}'?" if close else ""


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` alone, not what caused it, says that main memory was full. A GPU's memory is another matter.

    Libraries raise this as errors of many types (``MemoryError``, ``cv2.error``, ``RuntimeError``), and a loading
    process hands over the text of an error only, so the text counts as well.
    """
    if isinstance(error, UserError) or type(error).__name__ == "OutOfMemoryError":
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return bool(_NO_MEMORY.search(str(error)))


def memory_full(error: BaseException) -> str:
    """One sentence for an error that is ``out_of_memory``: what was asked for, and which options lower it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # From a loading process the text is a whole trace, whose last line is the error.
    said = next((line for line in reversed(lines) if _NO_MEMORY.search(line)), "")
    if asked := re.search(r"(\d+) bytes", said):
        said = f"another {int(asked[1]) / 1e6:,.1f} MB could not be allocated"
    elif isinstance(error, MemoryError) and not said and lines:
        said = lines[-1]
    said = re.sub(r"^[\w.]*Error: ?", "", said)
    said = f": {said}" if said else ""
    return (
        f"main memory is full{said}; for training lower data.batch_size, data.num_workers or"
        " transforms.crop_size, for large images use inference/window=sliding or a lower huge.pixels, or end other"
        " programs"
    )


def printable(text: object) -> str:
    r"""``text`` with what a terminal or a UTF-8 file cannot take spelled out.

    Bytes of a file name that are no UTF-8 become ``\xff``, line breaks and other control characters ``\n``.
    """
    return "".join(each if each.isprintable() else _spelled(each) for each in str(text))


def _spelled(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


@contextlib.contextmanager
def noted(what: object) -> Iterator[None]:
    """Print an error in the block as one note and continue: a chart that fails must not cost the result it shows.

    Args:
        what: the block writes.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"note: {what}: not written ({reason}); the run continues", flush=True)
