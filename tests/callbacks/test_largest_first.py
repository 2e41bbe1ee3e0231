"""The largest image of an evaluation is predicted before all others."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from src.callbacks import LargestFirst
from src.data import FileSource, LabelSpace, Pair, SegmentationDataset

SPACE = LabelSpace(names=["a", "b"], colors=[(0, 0, 0), (255, 255, 255)])


class Recorder(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.predicted: list[tuple[int, ...]] = []

    def predict_label(self, image: Tensor) -> Tensor:
        self.predicted.append(tuple(image.shape))
        return image[:, 0]

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        self.predict_label(batch["image"])

    test_step = validation_step


@pytest.mark.parametrize(
    ("sizes", "first"),
    [([(8, 8), (8, 8), (8, 16), (12, 8)], (2, 3, 8, 16)), ([(16, 8), (16, 8), (8, 8), (8, 8)], (2, 3, 16, 8))],
)
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_the_largest_image_comes_first_once(
    tmp_path: Path, sizes: list[tuple[int, int]], first: tuple[int, ...], stage: str
) -> None:
    pairs = []
    for index, size in enumerate(sizes):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
        pairs.append(Pair(path, None, path.stem))
    dataset = SegmentationDataset(FileSource(pairs, SPACE))
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=lambda samples: {"image": torch.stack([samples[0]["image"]] * 2)}
    )
    module, callback = Recorder(), LargestFirst()
    for _ in range(2):
        trainer = pl.Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
        getattr(trainer, stage)(module, loader, verbose=False)
    assert module.predicted[0] == first
    tried = 1 if sizes[0] == (8, 8) else 0  # nothing is tried that the first batch shows anyway
    assert len(module.predicted) == 4 + tried
