"""The front of every entry point: Hydra composes, and a user's mistake ends in one line with the remedy.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.errors import UserError, nearest
from src.options import check_line, check_options

__all__ = ["CONFIG_DIR", "command", "explain", "value_of"]

CONFIG_DIR = Path(__file__).resolve().parent.parent / "conf"
_TRACE = "HYDRA_FULL_ERROR"


def command(
    config_name: str,
    task: Callable[[DictConfig], Any],
    *,
    prepare: Callable[[list[str]], tuple[str, list[str]]] | None = None,
) -> None:
    """Runs ``task`` with the config that ``conf/<config_name>.yaml`` and the command line compose.

    Args:
        config_name: root config.
        task: what to do with the composed config.
        prepare: looks at the overrides before Hydra does; returns root config name and overrides.

    A ``UserError``, a mistake in the overrides, or memory that ran out prints one line and exits with status 1;
    ``HYDRA_FULL_ERROR=1`` shows the whole trace instead.
    """
    trace = os.environ.get(_TRACE) == "1"
    os.environ[_TRACE] = "1"  # makes Hydra raise its own errors instead of printing them
    overrides = given = sys.argv[1:]
    name = config_name  # of the command, whatever root config it gets
    try:
        if prepare is not None:
            config_name, overrides = prepare(overrides)
            sys.argv[1:] = overrides
        checked = check_line(name, str(CONFIG_DIR), config_name, overrides)
        main = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)
        main(_reporting(None if checked else name, task, trace, list(given)))()
    except (HydraException, OmegaConfBaseException, UserError, OSError) as error:
        if trace:
            raise
        _fail(_user_message(error) or explain(error, config_name))
    except ValueError as error:
        if trace or "Config group override" not in str(error):
            raise
        _fail("a group cannot be null; choose one of its options (--help lists them)")
    except KeyboardInterrupt:
        _fail("stopped")
    finally:
        if not trace:
            del os.environ[_TRACE]


def _reporting(
    unchecked: str | None, task: Callable[[DictConfig], Any], trace: bool, given: list[str]
) -> Callable[[DictConfig], Any]:
    def run(cfg: DictConfig) -> Any:
        sys.argv[1:] = given  # Lightning starts its further processes with what it finds here
        if not trace:
            del os.environ[_TRACE]  # and with this
        try:
            if unchecked is not None:
                check_options(unchecked, cfg)
            return task(cfg)
        except Exception as error:
            message = _user_message(error)
            if trace or message is None:
                raise
            _remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
            _fail(message)  # here, because Hydra prints a line of its own about what leaves the task
        finally:
            os.environ[_TRACE] = "1"

    return run


def _remove_if_empty(folder: Path) -> None:
    """The folder of a run that has left nothing there; never the one that the user is in."""
    with contextlib.suppress(OSError):
        if not folder.samefile(Path.cwd()):
            folder.rmdir()


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(1)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _user_message(error: BaseException) -> str | None:
    """The sentence for the user, if the error or what caused it is a known kind."""
    for cause in _chain(error):
        if isinstance(cause, UserError):  # from a loader process the message comes with the process's own trace
            return str(cause).rsplit("UserError: ", 1)[-1].strip()
        if isinstance(cause, OmegaConfBaseException) and "Missing mandatory value" in str(cause):
            return f"{cause.full_key} is not set; give it on the command line as {cause.full_key}=..."
        if isinstance(cause, OSError) and cause.filename is not None:
            return f"{cause.filename}: {cause.strerror}; choose another place, or mend its permissions"
        if "Error(s) in loading state_dict" in str(cause):
            first = " ".join(str(cause).split("\n", 2)[1].split())
            return f"the checkpoint does not fit the net: {first} Use resume=RUN_FOLDER, or init_from=... for what fits"
        if process := re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(cause)):
            return (
                f"loading process {process[1]} was killed, most often for want of memory (also of /dev/shm); lower"
                " data.num_workers or data.batch_size and go on with resume=last, which starts at the last checkpoint"
            )
        if "parameters that were not used in producing the loss" in str(cause):  # as Lightning puts it
            return (
                "the net has parameters that no output of the step used, so devices cannot exchange their gradients;"
                " leave them out, or set trainer.strategy=ddp_find_unused_parameters_true"
            )
        if re.search("Connection (closed|reset) by peer", str(cause)):
            return "another process of this run has ended; its message says why"
        if "Expected more than 1 value per channel when training" in str(cause):
            return (
                "a batch norm sees one value per channel, since a single image has shrunk to a map of one pixel; raise"
                " data.batch_size or transforms.crop_size, or with trained weights set norms.freeze=statistics"
            )
        if type(cause).__name__ == "OutOfMemoryError":
            return (
                "the GPU's memory is full; lower data.batch_size or transforms.crop_size, or use"
                " trainer.precision=bf16-mixed"
            )
    return None


def explain(error: Exception, config_name: str, *, also: Iterable[str] = ()) -> str:
    """One line for a mistake in the overrides, with the nearest name of the config or ``also``."""
    text = str(error).strip()
    if group := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        folder, option = group.groups()
        options = sorted(path.stem for path in (CONFIG_DIR / folder).glob("*.yaml"))
        every = ", ".join(options)
        return f"{folder}={option}: there is no such option.{nearest(option, options)} {folder} is one of: {every}"
    if key := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text):
        name = next(filter(None, key.groups()))
        full = re.search(r"full_key: (\S+)", text)
        name = full.group(1) if full else name
        known = [key for key in (*also, *_keys(config_name)) if key != name]
        return (
            f"{name}: there is no such option.{nearest(name, known) or nearest(name.split('.')[-1], known)}"
            " All options: --cfg job; +name=value adds one"
        )
    if "override_grammar" in text:
        what = text.splitlines()[0]
        return (
            f"an option on the command line cannot be read ({what}); put lists in quotes: 'transforms.scale=[0.5, 2]'"
        )
    return " ".join(line.strip() for line in text.splitlines()[:3])


def _keys(config_name: str) -> Iterator[str]:
    """Groups and dotted keys of the default config."""
    yield from (path.name for path in CONFIG_DIR.iterdir() if path.is_dir())
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        tree = OmegaConf.to_container(hydra.compose(config_name), resolve=False)
    stack = [("", tree)]
    while stack:
        prefix, node = stack.pop()
        for key, value in node.items():
            name = f"{prefix}{key}"
            yield name
            if isinstance(value, dict):
                stack.append((f"{name}.", value))


def value_of(name: str, overrides: list[str]) -> str | None:
    """The value that the overrides give to ``name``, unquoted; ``None`` if they do not."""
    values = [item.split("=", 1)[1] for item in overrides if item.startswith(f"{name}=")]
    return values[-1].strip("'\"") if values else None


def offer(group: str | None, name: str, node: Any, *, package: str | None = None) -> None:
    """Makes ``node`` an option of a config group (or a root config) for this process."""
    ConfigStore.instance().store(group=group, name=name, node=node, package=package)


def offer_inference(saved: Mapping[str, Any]) -> None:
    """Makes the inference of a checkpoint the option ``checkpoint``, with window and refinement that can be swapped."""
    parts = ("window", "refine")
    for part in parts:
        offer(f"inference/{part}", "checkpoint", {part: saved.get(part)}, package="inference")
    rest = {name: value for name, value in saved.items() if name not in parts}
    offer("inference", "checkpoint", {"defaults": [*({part: "checkpoint"} for part in parts), "_self_"], **rest})
