"""Weights & Biases that never asks and never blocks: online if the user is logged in, otherwise offline."""

from __future__ import annotations

import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ..errors import UserError
from ..files.atomic import write_bytes
from ..files.run_files import WANDB_ID
from ..files.untrusted import read_text
from ..metrics import Scores
from .run_logger import Example, RunLogger

__all__ = ["WandbRunLogger", "wandb_logger"]

_PATIENCE = 20  # seconds to wait for the server
_STEP = "trainer/global_step"  # the axis that Lightning logs over
_CONFUSIONS = 2500  # largest entries of a confusion matrix that are sent


class WandbRunLogger(WandbLogger, RunLogger):
    """Lightning's logger with what else a run of segmentation has to show."""

    @rank_zero_only
    def log_config(self, config: Mapping[str, Any]) -> None:
        self.experiment.config.update(dict(config), allow_val_change=True)

    @rank_zero_only
    def log_best(self, miou: float) -> None:
        self.experiment.summary["val/miou"] = miou

    @rank_zero_only
    def log_scores(self, stage: str, scores: Scores, names: Sequence[str], *, step: int) -> None:
        """A table ``<stage>/classes`` and a confusion matrix ``<stage>/confusion``."""
        figures = (scores.iou.tolist(), scores.accuracy.tolist(), scores.truth_share)
        rows = [
            [name, *(None if math.isnan(figure) else figure for figure in row)]
            for name, row in zip(names, zip(*figures, strict=True), strict=True)
        ]
        matrix = scores.matrix.numpy()
        largest = np.argsort(-matrix, axis=None)[:_CONFUSIONS]
        cells = [divmod(int(place), len(names)) for place in largest]
        pixels = [[names[row], names[column], int(matrix[row, column])] for row, column in cells if matrix[row, column]]
        confusion = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            wandb.Table(columns=["truth", "prediction", "pixels"], data=pixels),
            {"Actual": "truth", "Predicted": "prediction", "nPredictions": "pixels"},
            {"title": f"{stage} confusion, pixels"},
        )
        table = wandb.Table(columns=["class", "iou", "accuracy", "truth_share"], data=rows)
        shown: dict[str, Any] = {f"{stage}/classes": table, f"{stage}/confusion": confusion}
        self.log_metrics(shown, step=step)

    @rank_zero_only
    def log_pictures(
        self, files: Mapping[str, Path], examples: Sequence[Example], names: Sequence[str], *, step: int
    ) -> None:
        """``val/images``: overlays to switch on and off; ``val/panels``: the same in the palette's own colours."""
        labels = {**dict(enumerate(names)), 255: "ignored"}
        shown: dict[str, Any] = {}
        if examples:
            shown["val/images"] = [
                wandb.Image(
                    example.image,
                    caption=example.name,
                    file_type="jpg",
                    masks={
                        "truth": {"mask_data": example.label, "class_labels": labels},
                        "prediction": {"mask_data": example.prediction, "class_labels": labels},
                    },
                )
                for example in examples
            ]
        if "val/panels" in files:
            shown["val/panels"] = wandb.Image(str(files["val/panels"]))
        if shown:
            self.log_metrics(shown, step=step)

    @rank_zero_only
    def close(self) -> None:
        if self._experiment is not None:
            self._experiment.finish()


def wandb_logger(
    project: str, name: str, run_dir: str, *, group: str | None = None, tags: Sequence[str] = ()
) -> WandbRunLogger:
    """A logger whose files lie in ``run_dir``; a resumed run keeps its id, offline too.

    The first process starts the run, and ends one that this process still has open; the others send nothing.

    Args:
        project, name, tags: as wandb shows them; the environment's ``WANDB_NAME`` goes before ``name``.
        run_dir: folder of the run.
        group: of runs that belong together, such as the trials of a sweep; ``WANDB_RUN_GROUP`` where it is not given.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    name = os.environ.get("WANDB_NAME") or name
    if not _first():
        return WandbRunLogger(project=project, name=name, save_dir=run_dir)  # starts no run
    if wandb.run is not None:
        wandb.finish()
    folder = Path(run_dir)
    id_file = folder / WANDB_ID
    run_id = _stored_id(id_file) if id_file.exists() else secrets.token_hex(4)
    logged_in = _logged_in()
    mode = os.environ.get("WANDB_MODE") or ("online" if logged_in else "offline")
    if not logged_in and mode == "offline":
        print(
            "wandb: not logged in, so this run is kept offline in its run folder; use `wandb login` before a run, or"
            " `wandb sync` after it",
            flush=True,
        )
    folder.mkdir(parents=True, exist_ok=True)

    def start(mode: str) -> WandbRunLogger:
        logger = WandbRunLogger(
            project=project,
            name=name,
            save_dir=folder,
            id=run_id,
            group=group,
            tags=list(tags),
            mode=mode,
            resume="allow",
            settings=wandb.Settings(init_timeout=_PATIENCE, console="off"),
        )
        _ = logger.experiment  # starts the run now, so that a silent server is met here
        return logger

    try:
        logger = start(mode)
    except (wandb.errors.Error, OSError) as error:
        reason = str(error).splitlines()[0]
        print(f"wandb: server not reached ({reason}); this run is kept offline in its run folder", flush=True)
        logger = start("offline")
    write_bytes(id_file, run_id.encode())
    # The best is given by hand (``log_best``): wandb would take that of this process only, and a resumed run has two.
    logger.experiment.define_metric("val/miou", summary="none", step_metric=_STEP, step_sync=True)
    return logger


def _stored_id(path: Path) -> str:
    """The id in a run folder: wandb makes paths and addresses of it."""
    remedy = "remove it, and wandb begins another run"
    run_id = read_text(path, remedy=remedy).strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id):
        raise UserError(f"{path}: holds no id of a run; {remedy}")
    return run_id


def _first() -> bool:
    """Whether this is the first process of the first node; only ``NODE_RANK`` may tell further nodes so far."""
    rank: int = rank_zero_only.rank  # pyrefly: ignore[missing-attribute]  # an attribute of the function
    return rank == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _logged_in() -> bool:
    try:
        return wandb.login(prompt=False)  # looks for a key; asks neither the user nor the server
    except (wandb.errors.Error, ValueError):  # a key that cannot be one
        return False
