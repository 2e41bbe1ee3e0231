"""Tuning the CRF of a checkpoint on images of a split, before it is scored with the best setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from src.data import SegmentationDataset
from src.errors import UserError
from src.evaluation.crf_search import search
from src.inference import DenseCRF
from src.training.module import SegmentationModule

__all__ = ["tune"]


def tune(
    module: SegmentationModule, dataset: SegmentationDataset, trainer: pl.Trainer, *, images: int, table: Path
) -> tuple[DenseCRF, float]:
    """The best setting that ``module.inference.refine.search`` leads to, and its mIoU on these images.

    Args:
        module: its ``inference.refine`` becomes the best setting.
        dataset: with labels.
        trainer: on whose device it runs.
        images: how many, spread evenly over ``dataset``.
        table: CSV of all settings and their mIoU; a search that was cut short goes on where it was.

    Raises:
        UserError: on several devices, and as ``src.evaluation.crf_search.search``.
    """
    if trainer.world_size > 1:
        raise UserError(f"inference.refine.search runs on one device, not {trainer.world_size}; set trainer.devices=1")
    table.parent.mkdir(parents=True, exist_ok=True)
    crf, module.inference.refine = module.inference.refine, None
    module.to(trainer.strategy.root_device)
    with torch.inference_mode(), trainer.precision_plugin.test_step_context():
        (best, miou), *_ = search(crf, _Scored(module, dataset, images), table)
    module.inference.refine = best = replace(best, search=None)
    return best, miou


class _Scored:
    """Image, scores and label one by one, each time anew: scores of all images would not fit into memory."""

    def __init__(self, module: SegmentationModule, dataset: SegmentationDataset, images: int) -> None:
        self.module, self.dataset = module, dataset
        self.indices = np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int).tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for sample in map(self.dataset.__getitem__, self.indices):
            if "label" not in sample:
                raise UserError(f"{sample['name']}: has no label to search by; choose a labelled split")
            rgb = sample["image"][None].to(self.module.device)
            yield rgb, self.module.scores(rgb), sample["label"][None]
