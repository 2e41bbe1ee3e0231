"""LargestFirst: an evaluation shows at its start whether its largest image fits into memory."""

from __future__ import annotations

import math
from typing import cast

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from ..data import SegmentationDataset
from ..training.module import SegmentationModule, segmentation_module

__all__ = ["LargestFirst"]


class LargestFirst(Callback):
    """Predicts the largest image of a loader before the others, unless it is in the first batch; the result is dropped.

    What an image that does not fit changes (see ``src.inference``) then concerns all images alike. Sizes come from the
    files' headers, once for each data set.
    """

    def __init__(self) -> None:
        self._tried: set[int] = set()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._try(trainer, segmentation_module(pl_module), trainer.val_dataloaders)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._try(trainer, segmentation_module(pl_module), trainer.test_dataloaders)

    def _try(self, trainer: Trainer, module: SegmentationModule, loader: DataLoader | None) -> None:
        if loader is None or id(loader.dataset) in self._tried:
            return
        dataset = cast(SegmentationDataset, loader.dataset)
        self._tried.add(id(dataset))
        order = list(loader.sampler)
        pixels = [math.prod(dataset.source.size(index)) for index in order]
        largest = max(range(len(order)), key=pixels.__getitem__)
        if pixels[largest] <= max(pixels[: loader.batch_size]):
            return
        image = dataset[order[largest]]["image"].to(module.device)
        with trainer.precision_plugin.forward_context():
            module.predict_label(image.expand(loader.batch_size, -1, -1, -1))
