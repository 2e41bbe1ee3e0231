"""Panels: what the net sees, should see and gets wrong on a few fixed validation images, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from src.errors import noted
from src.reports import pictures
from src.schema.faults import checked
from src.schema.types import Count

__all__ = ["Example", "Panels"]

_SIDE = 1024  # longest side of what is kept for dashboards


@dataclass(frozen=True)
class Example:
    """One validation image, reduced to a longest side of 1024: (H,W,3) uint8 RGB, train ids (H,W) uint8."""

    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


class Panels(Callback):
    """With each validation, writes ``panels/epoch_<number>.png`` and the same picture as ``panels/latest.png``.

    The images are spread evenly over ``trainer.datamodule.val_dataset`` and stay the same for the whole run. They are
    read anew each time and predicted as validation begins, with the weights that it scores: averaged ones, if there
    are, are in place only while it runs.

    Args:
        run_dir: folder of the run.
        count: how many images, fewer where the data set is smaller.

    Attributes:
        examples: what the last validation predicted for them.
    """

    @checked("callbacks.panels")
    def __init__(self, run_dir: str | Path, count: Count = 4) -> None:
        self.folder = Path(run_dir) / "panels"
        self.count = count
        self.examples: list[Example] = []
        self._rows: list[np.ndarray] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _wanted(trainer):
            return
        dataset = trainer.datamodule.val_dataset
        indices = np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int)
        with trainer.precision_plugin.val_step_context():
            shown = [_shown(dataset[index], pl_module) for index in indices.tolist()]
        self._rows, self.examples = (list(column) for column in zip(*shown, strict=True))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _wanted(trainer):
            return
        rows, self._rows = self._rows, []
        width = max(row.shape[1] for row in rows)
        title = f"epoch {trainer.current_epoch}   mIoU {100 * pl_module.val_scores.miou:.1f} %"
        legend = pictures.legend(pl_module.label_space.names, pl_module.label_space.colors, width)
        picture = pictures.stack_rows([pictures.caption(title, width), *rows, legend])
        with noted(self.folder):
            pictures.save_png(self.folder / f"epoch_{trainer.current_epoch:03d}.png", picture)
            pictures.save_png(self.folder / "latest.png", picture)


def _wanted(trainer: Trainer) -> bool:
    return trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking


def _shown(sample: dict[str, Any], module: LightningModule) -> tuple[np.ndarray, Example]:
    """A row of the panel, and what it was drawn from."""
    with torch.inference_mode():
        prediction = module.predict_label(sample["image"][None].to(module.device))[0].cpu().numpy()
    image, label = sample["image"].permute(1, 2, 0).numpy(), sample["label"].numpy()
    row = pictures.panel(image, label, prediction, module.label_space, name=sample["name"])
    small = (pictures.reduced(image, _SIDE), *(pictures.reduced(ids, _SIDE, mix=False) for ids in (label, prediction)))
    return row, Example(sample["name"], *small)
