"""Panels: what the net sees, should see and gets wrong on a few fixed validation images, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer

from ..errors import noted
from ..files.run_files import LATEST_PANEL, PANELS
from ..loggers.run_logger import Example
from ..reports import pictures
from ..schema.faults import checked
from ..schema.types import Count
from ..training.module import SegmentationModule, segmentation_module
from ..training.trainer_parts import datamodule_of
from .after_validation import AfterValidation, writes_now

__all__ = ["Panels", "draw_panel"]

_SIDE = 1024  # longest side of the examples


class Panels(AfterValidation):
    """With each validation, writes ``panels/epoch_<number>.png`` and the same picture as ``panels/latest.png``.

    The images are spread evenly over ``trainer.datamodule.val_dataset`` and stay the same for the whole run. They are
    read again each time and predicted as validation begins, with the weights that it scores: averaged ones (EMA) are in
    place only during validation.

    Args:
        run_dir: folder of the run.
        count: how many images, fewer where the data set is smaller.

    Attributes:
        examples: the images of the last validation, reduced to a longest side of 1024, and their predictions.
    """

    @checked("callbacks.panels")
    def __init__(self, run_dir: str | Path, count: Count = 4) -> None:
        self.run_dir = Path(run_dir)
        self.count = count
        self.examples: list[Example] = []
        self._rows: list[np.ndarray] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not writes_now(trainer):
            return
        dataset = datamodule_of(trainer).val_dataset
        indices = np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int)
        with trainer.precision_plugin.val_step_context():
            shown = [draw_panel(dataset[index], segmentation_module(pl_module)) for index in indices.tolist()]
        self._rows = [row for row, _ in shown]
        self.examples = [_reduced(example) for _, example in shown]

    def after_validation(self, trainer: Trainer, module: SegmentationModule) -> None:
        rows, self._rows = self._rows, []
        width = max(row.shape[1] for row in rows)
        title = f"epoch {trainer.current_epoch}   mIoU {100 * module.val_scores.miou:.1f} %"
        legend = pictures.legend(module.label_space.names, module.label_space.colors, width)
        picture = pictures.stack_rows([pictures.caption(title, width), *rows, legend])
        with noted(self.run_dir / PANELS):
            pictures.save_png(self.run_dir / PANELS / f"epoch_{trainer.current_epoch:03d}.png", picture)
            pictures.save_png(self.run_dir / LATEST_PANEL, picture)


def draw_panel(sample: dict[str, Any], module: SegmentationModule) -> tuple[np.ndarray, Example]:
    """Predict a sample; return image, truth, prediction and errors side by side, and what they show."""
    with torch.inference_mode():
        prediction = module.predict_label(sample["image"][None].to(module.device))[0].cpu().numpy()
    image, label = sample["image"].permute(1, 2, 0).numpy(), sample["label"].numpy()
    row = pictures.panel(image, label, prediction, module.label_space, name=sample["name"])
    return row, Example(sample["name"], image, label, prediction)


def _reduced(example: Example) -> Example:
    label, prediction = (pictures.reduced(ids, _SIDE, mix=False) for ids in (example.label, example.prediction))
    return Example(example.name, pictures.reduced(example.image, _SIDE), label, prediction)
