"""Panels: what the net sees, should see and gets wrong on a few fixed validation images, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from src import viz

__all__ = ["Panels"]


class Panels(Callback):
    """With each validation, writes ``panels/epoch_<number>.png`` and the same picture as ``panels/latest.png``.

    The images are spread evenly over ``trainer.datamodule.val_dataset`` and stay the same for the whole run. They are
    read anew each time and predicted as validation begins, with the weights that it scores: averaged ones, if there
    are, are in place only while it runs.

    Args:
        run_dir: folder of the run.
        count: how many images, fewer where the data set is smaller.
    """

    def __init__(self, run_dir: str | Path, count: int = 4) -> None:
        self.folder = Path(run_dir) / "panels"
        self.count = count
        self._rows: list[np.ndarray] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _wanted(trainer):
            return
        dataset = trainer.datamodule.val_dataset
        indices = np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int)
        with trainer.precision_plugin.val_step_context():
            self._rows = [_row(dataset[index], pl_module) for index in indices.tolist()]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _wanted(trainer):
            return
        rows, self._rows = self._rows, []
        width = max(row.shape[1] for row in rows)
        title = f"epoch {trainer.current_epoch}   mIoU {100 * pl_module.val_scores.miou:.1f} %"
        legend = viz.legend(pl_module.label_space.names, pl_module.label_space.colors, width)
        picture = viz.stack_rows([viz.caption(title, width), *rows, legend])
        viz.save_png(self.folder / f"epoch_{trainer.current_epoch:03d}.png", picture)
        viz.save_png(self.folder / "latest.png", picture)


def _wanted(trainer: Trainer) -> bool:
    return trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking


def _row(sample: dict[str, Any], module: LightningModule) -> np.ndarray:
    image = sample["image"]
    with torch.inference_mode():
        prediction = module.predict_label(image[None].to(module.device))[0].cpu()
    return viz.panel(
        image.permute(1, 2, 0).numpy(),
        sample["label"].numpy(),
        prediction.numpy(),
        module.label_space,
        name=sample["name"],
    )
