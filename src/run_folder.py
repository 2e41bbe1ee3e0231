"""The folder of a run: made for it alone, and held by one process while it is written to."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from src.errors import UserError
from src.files import locked

__all__ = ["OwnFolder", "check_unused", "first_process", "held", "new_folder"]

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")  # of torchrun and Lightning, of SLURM, of the user's hand
_OF_AN_END = ("scores_*.json",)
_OF_A_RUN = ("config.yaml", "metrics.csv", "checkpoints/*.ckpt", *_OF_AN_END)


class OwnFolder(Callback):
    """A hook of Hydra: a run whose folder is named by default gets one that no other run has.

    Of the processes of one run the first makes it. Lightning tells those that it starts which one it is; those that
    ``torchrun`` or ``srun`` started get names of their own, whose folders ``held`` removes at the end.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        if any(item.lstrip("+").startswith("hydra.run.dir=") for item in config.hydra.overrides.hydra):
            return
        HydraConfig.instance().set_config(config)  # which a name such as that of a sweep asks for its choices
        wanted = Path(config.hydra.run.dir)
        if wanted == Path():
            return  # of a command that has no folder of its own
        with contextlib.suppress(OSError), read_write(config.hydra), open_dict(config.hydra):  # Hydra meets it again
            rank = _rank()
            config.hydra.run.dir = str(new_folder(wanted) if rank == 0 else f"{wanted}_rank_{rank}")


def new_folder(wanted: Path) -> Path:
    """Make a folder that was not there: ``wanted``, or where it is taken ``<wanted>_2``, ``<wanted>_3``, ..."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def held(what: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[DictConfig], Any]]:
    """A decorator for tasks: the first process holds ``cfg.run_dir`` until the task ends.

    The folder must be unused, unless ``ckpt_path`` lies there, or ``resume=auto`` starts a run anew that was stopped
    before its first checkpoint.

    Args:
        what: the task does, in words that follow "another process is".

    Raises:
        UserError: from the task, before anything is written, if the folder is held by another process or used.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
        @functools.wraps(task)
        def run(cfg: DictConfig) -> Any:
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
            f" go on with it (src.train resume={folder}), name another folder, or leave hydra.run.dir out"
        )


def first_process() -> bool:
    """Whether this is the process of a run that writes to its folder; asked of the environment."""
    return _rank() == 0


def _forbidden(cfg: DictConfig, folder: Path) -> Sequence[str]:
    """Patterns of files that must not be in the folder of a run that ``cfg`` starts."""
    checkpoint = OmegaConf.select(cfg, "ckpt_path")
    if checkpoint and Path(checkpoint).resolve().is_relative_to(folder.resolve()):
        return ()
    return _OF_AN_END if OmegaConf.select(cfg, "resume") == "auto" else _OF_A_RUN


def _rank() -> int:
    """Not 0 in each process of a run but the first."""
    return max(int(os.environ.get(name) or 0) for name in _RANKS)
