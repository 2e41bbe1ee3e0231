"""The front of every entry point: Hydra composes, and a user's mistake ends in one line with the remedy.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..build.config_values import as_plain
from ..build.validate import check_line, check_options
from ..errors import UserError, printable
from ..files.project import CONFIG_DIR, PACKAGE, as_called
from .messages import chain, known_message, unexpected
from .option_help import described
from .option_hints import NO_PACKAGE, explain, unknown_flag
from .overrides import readable
from .prepare import PREPARE, Prepare

__all__ = ["checked", "command", "sentence_of", "settled"]

OmegaConf.register_new_resolver("package", lambda: PACKAGE)  # for what Hydra imports itself
_GROUP = "Config group override"  # begins what Hydra says of model=null
_TRACE = "HYDRA_FULL_ERROR"


def command(
    name: str,
    task: Callable[[DictConfig], Any] | None = None,
    *,
    prepare: Prepare | None = None,
) -> None:
    """Runs ``task`` with the config that ``conf/<name>.yaml`` and the command line compose.

    Args:
        name: of the command, and of its root config.
        task: what to do with the composed config; by default the function of that name in ``src.commands``, which is
            imported only then: ``--help`` need not wait for torch.
        prepare: looks at the overrides before Hydra does; returns root config name and overrides. By default that of
            the command in ``src.cli.prepare``.

    Whatever goes wrong prints one line and exits with status 1: what is known to the user's remedy with it, anything
    else with the file that its trace was saved in. ``HYDRA_FULL_ERROR=1`` shows the whole trace instead.
    """
    trace = os.environ.get(_TRACE) == "1"
    os.environ[_TRACE] = "1"  # makes Hydra raise its own errors instead of printing them
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # any name can be printed, in any locale
    given = sys.argv[1:]
    root = name  # config that is composed
    try:
        overrides = readable(_flags_last(given, root))
        asked_about, overrides = _asked_about(overrides)
        root, overrides = settled(name, overrides, prepare)
        sys.argv[1:] = overrides
        if asked_about:
            print(as_called(described(name, asked_about, root, overrides)))
            return
        checked = check_line(name, str(CONFIG_DIR), root, overrides)
        main = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=root)
        run = main(_reporting(None if checked else name, task or _task(name), trace, list(given), root))
        if {"--help", "-h"} & set(overrides):
            _print_help(run)
        else:
            run()
    except Exception as error:
        if trace:
            raise
        _fail(_sentence(error, root, given))
    except KeyboardInterrupt:
        _fail("stopped")
    finally:
        _drop_unread_output()
        if not trace:
            del os.environ[_TRACE]


def settled(name: str, overrides: list[str], prepare: Prepare | None = None) -> tuple[str, list[str]]:
    """Root config and overrides that a command composes, as ``src.cli.prepare`` settles them."""
    prepare = prepare or PREPARE.get(name)
    return (name, overrides) if prepare is None else prepare(overrides)


def checked(
    task: Callable[[DictConfig], Any], failed: Callable[[Exception], Any], *, unchecked: str | None = None
) -> Callable[[DictConfig], Any]:
    """What Hydra runs: ``task`` after a check of what was composed, its folder removed where it left nothing there.

    Args:
        task: the work.
        failed: what is done about an error; here, because Hydra prints a line of its own about what leaves the task.
        unchecked: command whose options nobody has checked yet.
    """

    def run(cfg: DictConfig) -> Any:
        folder = Path(as_plain(HydraConfig.get().runtime, resolve=False)["output_dir"])
        try:
            _check(cfg, folder)
            if unchecked is not None:
                check_options(unchecked, cfg)
            return task(cfg)
        except Exception as error:
            _remove_if_empty(folder)
            failed(error)

    return run


def sentence_of(error: Exception, root: str, given: list[str]) -> str | None:
    """What is wrong with a command line or its files, and the remedy; ``None`` for an error of an unknown kind."""
    if message := known_message(error):
        return message
    if isinstance(error, HydraException | OmegaConfBaseException | YAMLError) or _GROUP in str(error):
        return explain(error, root, overrides=given)
    return None


def _print_help(run: Callable[[], Any]) -> None:
    """What Hydra prints of a command before it exits, with commands as they are called here."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            run()
    finally:
        print(as_called(said.getvalue()), end="")


def _task(name: str) -> Callable[[DictConfig], Any]:
    def run(cfg: DictConfig) -> Any:
        return getattr(importlib.import_module(f"{PACKAGE}.commands.{name}"), name)(cfg)

    return run


def _reporting(
    unchecked: str | None, task: Callable[[DictConfig], Any], trace: bool, given: list[str], root: str
) -> Callable[[DictConfig], Any]:
    def failed(error: Exception) -> None:
        if trace:
            raise error
        _fail(_sentence(error, root, given))

    job = checked(task, failed, unchecked=unchecked)

    def run(cfg: DictConfig) -> Any:
        sys.argv[1:] = given  # Lightning starts its further processes with what it finds here
        if not trace:
            del os.environ[_TRACE]  # and with this
        try:
            return job(cfg)
        finally:
            os.environ[_TRACE] = "1"

    return run


def _check(cfg: DictConfig, folder: Path) -> None:
    """Refuses what composes, but cannot be meant; before anything is done."""
    if "${" in str(folder):
        raise UserError(f"{folder}: a folder to work in cannot have ${{ in its path; go to another, or rename it")
    for group, chosen in HydraConfig.get().runtime.choices.items():
        if group in ("experiment", "debug") and OmegaConf.is_dict(cfg.get(group)):
            raise UserError(f"{group}={chosen}: {NO_PACKAGE}")


def _flags_last(given: list[str], config_name: str) -> list[str]:
    """The command line with its flags behind the overrides, where Hydra wants them; refuses flags that Hydra lacks."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            known, others = get_args_parser().parse_known_args(given)
    except SystemExit as ending:
        if ending.code == 0:  # --version
            raise
        raise UserError(said.getvalue().strip().rpartition("error: ")[2]) from None
    if unknown := [item for item in others if item.startswith("-")]:
        raise UserError(unknown_flag(unknown[0], config_name))
    overrides, flags = [*known.overrides, *others], list(given)
    for item in overrides:
        flags.remove(item)
    return [*overrides, *flags]


def _asked_about(overrides: list[str]) -> tuple[list[str], list[str]]:
    """The names that ``--help`` is asked about, such as ``--help optimizer.lr``, and the rest of the command line."""
    names = [item for item in overrides if not item.startswith(("-", "~")) and "=" not in item]
    if not names or not {"--help", "-h"} & set(overrides):
        return [], overrides
    return names, [item for item in overrides if item not in names and not item.startswith("-")]


def _sentence(error: Exception, root: str, given: list[str]) -> str:
    """What to print; nothing is printed where nobody reads it any more."""
    if any(isinstance(cause, BrokenPipeError) for cause in chain(error)) and _drop_unread_output():
        sys.exit(1)
    return sentence_of(error, root, given) or unexpected(error)


def _drop_unread_output() -> bool:
    """Whether nobody reads stdout or stderr any more, as after ``| head``; what is left for them is then dropped."""
    dropped = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # of streams that are closed, or no files
            if _is_unread(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                dropped = True
    return dropped


def _is_unread(stream: TextIO) -> bool:
    try:
        stream.flush()
    except BrokenPipeError:
        return True
    if not hasattr(select, "poll"):  # Windows, where only writing tells
        return False
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _remove_if_empty(folder: Path) -> None:
    """The folder of a run that has left nothing there; never the one that the user is in."""
    with contextlib.suppress(OSError):
        if not folder.samefile(Path.cwd()):
            folder.rmdir()


def _fail(message: str) -> None:
    lines = "\n".join(map(printable, as_called(message).split("\n")))  # names may hold what would move the cursor
    print(f"error: {lines}", file=sys.stderr, flush=True)
    sys.exit(1)
