"""The folder of a run: made for it alone, and held by one process while it is written to."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.atomic import locked
from ..files.run_files import CONFIG, HISTORY, scores_file

__all__ = ["check_unused", "first_process", "held", "new_folder", "rank"]

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")  # of torchrun and Lightning, of SLURM, of the user's hand
_OF_AN_END = (scores_file("*"),)
_OF_A_RUN = (CONFIG, HISTORY, "checkpoints/*.ckpt", *_OF_AN_END)


def new_folder(wanted: Path) -> Path:
    """Make a folder that was not there: ``wanted``, or where it is taken ``<wanted>_2``, ``<wanted>_3``, ..."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}_{number}")


def held(what: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """A decorator for tasks: the first process holds ``cfg.run_dir`` until the task ends.

    The folder must be unused, unless ``ckpt_path`` lies there, or ``resume=auto`` restarts a run that was stopped
    before its first checkpoint.

    Args:
        what: the task does, in words that follow "another process is".

    Raises:
        UserError: from the task, before anything is written, if the folder is held by another process or used.
    """

    def decorate(task: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(task)
        def run(cfg: Any) -> Any:
            folder = Path(cfg.run_dir)
            if not first_process():
                try:
                    return task(cfg)
                finally:
                    with contextlib.suppress(OSError):
                        folder.rmdir()  # which only its own is empty enough for
            with locked(folder, what):
                check_unused(folder, _forbidden(cfg, folder))
                return task(cfg)

        return run

    return decorate


def check_unused(folder: Path, patterns: Sequence[str] = _OF_A_RUN) -> None:
    """Raise a ``UserError`` if ``folder`` holds what a run has written: files that ``patterns`` match."""
    found = next((path for pattern in patterns for path in folder.glob(pattern)), None)
    if found is not None:
        raise UserError(
            f"hydra.run.dir={folder}: holds a run already ({found.relative_to(folder)}), which another would overwrite;"
            f" resume it (src.train resume={folder}), name another folder, or leave hydra.run.dir out"
        )


def first_process() -> bool:
    """Whether this is the process of a run that writes to its folder; asked of the environment."""
    return rank() == 0


def _forbidden(cfg: Any, folder: Path) -> Sequence[str]:
    """Patterns of files that must not be in the folder of a run that ``cfg`` starts."""
    checkpoint = cfg.get("ckpt_path")
    if checkpoint and Path(checkpoint).resolve().is_relative_to(folder.resolve()):
        return ()
    return _OF_AN_END if cfg.get("resume") == "auto" else _OF_A_RUN


def rank() -> int:
    """Number of this process in its run, 0 for the first; asked of the environment."""
    return max(int(os.environ.get(name) or 0) for name in _RANKS)
