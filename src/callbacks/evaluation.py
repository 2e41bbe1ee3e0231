"""Evaluation: what a test measures beside the confusion matrix, batch by batch, over all devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ..files.run_files import WORST, WORST_IMAGES
from ..metrics import (
    BoundaryCounts,
    BoundaryScores,
    Calibration,
    CalibrationCounts,
    ConfusionMatrix,
    Measures,
    PerImage,
    bootstrap,
)
from ..training.module import segmentation_module
from ..training.trainer_parts import gathered
from .worst_images import draw_lowest, draw_worst

__all__ = ["Evaluation"]


class Evaluation(Callback):
    """Measures a test; ``measures`` holds the result when it has ended, alike on every device.

    The module's ``test_step`` has to return ``prediction`` and ``confidence``, both (B,H,W) uint8. What is kept grows
    by a few hundred bytes an image: the counts of its classes, for the interval and for a comparison of runs.

    Args:
        num_classes: K.
        boundary: also measure boundary IoU, 65 ms for an image of 2048x1024.
        resamples: of the bootstrap interval over images; 0 for none.
        worst: for each class, draw this many images of its lowest IoU; they are predicted once more.
        worst_images: draw this many images of lowest mean IoU; they are predicted once more, too.
        folder: of the run; pictures go to its ``worst/<class>`` and ``worst_images``.
        then: called by the first device with the measures, before any picture is drawn.
    """

    measures: Measures

    def __init__(
        self,
        num_classes: int,
        *,
        boundary: bool = True,
        resamples: int = 1000,
        worst: int = 0,
        worst_images: int = 0,
        folder: str | Path = ".",
        then: Callable[[Measures], None] | None = None,
    ) -> None:
        self.resamples = resamples
        self.worst = worst
        self.worst_images = worst_images
        self.folder = Path(folder)
        self.then = then
        self._confusion = ConfusionMatrix(num_classes)
        self._boundary = BoundaryCounts(num_classes) if boundary else None
        self._calibration = CalibrationCounts()
        self._images, self._sizes = PerImage(num_classes), Counter()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for metric in (self._boundary, self._calibration):
            if metric is not None:
                metric.reset()
                metric.to(pl_module.device)  # where devices exchange their counts
        self._images, self._sizes = PerImage(self._images.num_classes), Counter()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        prediction, label = outputs["prediction"], batch["label"]
        for name, truth, predicted in zip(batch["name"], label, prediction, strict=True):
            self._images.add(name, self._confusion.count(predicted, truth).cpu())
        self._sizes[tuple(label.shape[1:])] += len(label)
        self._calibration.update(prediction, label, outputs["confidence"])
        if self._boundary is not None:
            self._boundary.update(prediction, label)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts = gathered((self._images, self._sizes))
        images = PerImage(self._images.num_classes).joined(part for part, _ in parts)
        self.measures = Measures(
            images,
            sum((sizes for _, sizes in parts), Counter()),
            calibration=Calibration(self._calibration.compute().cpu()),
            boundary=None if self._boundary is None else BoundaryScores(self._boundary.compute().cpu()),
            interval=bootstrap(images, resamples=self.resamples),
        )
        if self.then is not None and trainer.is_global_zero:
            self.then(self.measures)
        module = segmentation_module(pl_module)
        if self.worst:
            draw_worst(trainer, module, images, self.worst, self.folder / WORST)
        if self.worst_images:
            draw_lowest(trainer, module, images, self.worst_images, self.folder / WORST_IMAGES)
