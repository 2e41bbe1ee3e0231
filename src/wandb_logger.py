"""Weights & Biases that never asks and never blocks: online if the user is logged in, otherwise offline."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

__all__ = ["wandb_logger"]

_ID_FILE = "wandb_id.txt"
_PATIENCE = 20  # seconds to wait for the server


def wandb_logger(
    project: str, name: str, run_dir: str, *, group: str | None = None, tags: Sequence[str] = ()
) -> WandbLogger:
    """A logger whose files lie in ``run_dir``; a resumed run keeps its id.

    Args:
        project, name, group, tags: as wandb shows them.
        run_dir: folder of the run.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    folder = Path(run_dir)
    id_file = folder / _ID_FILE
    run_id = id_file.read_text().strip() if id_file.is_file() else secrets.token_hex(4)
    logged_in = _logged_in()
    mode = os.environ.get("WANDB_MODE") or ("online" if logged_in else "offline")
    if not logged_in and mode == "offline":
        _say(
            "wandb: not logged in, so this run is kept offline in its run folder; `wandb login` before, or"
            " `wandb sync` after"
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(init_timeout=_PATIENCE, console="off")
    logger = _start(
        mode, project=project, name=name, folder=folder, run_id=run_id, group=group, tags=tags, settings=settings
    )
    if rank_zero_only.rank == 0:
        id_file.write_text(run_id)
        logger.experiment.define_metric("val/miou", summary="max")
    return logger


def _start(
    mode: str,
    *,
    project: str,
    name: str,
    folder: Path,
    run_id: str,
    group: str | None,
    tags: Sequence[str],
    settings: wandb.Settings,
) -> WandbLogger:
    def logger(mode: str) -> WandbLogger:
        made = WandbLogger(
            project=project,
            name=name,
            save_dir=folder,
            id=run_id,
            group=group,
            tags=list(tags),
            mode=mode,
            resume="allow",
            settings=settings,
        )
        _ = made.experiment  # starts the run now, so that a silent server is met here
        return made

    try:
        return logger(mode)
    except (wandb.errors.Error, OSError) as error:
        _say(f"wandb: server not reached ({str(error).splitlines()[0]}); this run is kept offline in its run folder")
        return logger("offline")


def _logged_in() -> bool:
    try:
        return wandb.login(prompt=False)  # looks for a key; asks neither the user nor the server
    except (wandb.errors.Error, ValueError):  # a key that cannot be one
        return False


@rank_zero_only
def _say(message: str) -> None:
    print(message, flush=True)
