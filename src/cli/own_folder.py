"""A folder for each run, whatever the clock says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from ..runtime.run_lock import new_folder, rank

__all__ = ["OwnFolder"]


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
        with contextlib.suppress(OSError), read_write(config.hydra), open_dict(config.hydra):  # Hydra reports it later
            number = rank()
            config.hydra.run.dir = str(new_folder(wanted) if number == 0 else f"{wanted}_rank_{number}")
