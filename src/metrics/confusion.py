"""A streaming confusion matrix: exact over devices and uneven batches, and no slower than counting must be."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from ..errors import UserError

__all__ = ["ConfusionMatrix", "joint_histogram"]

_STRIP = 1 << 23  # OpenCV returns counts as float32, exact up to 2^24


class ConfusionMatrix(Metric):
    """Counts of (truth, prediction) pairs of valid pixels.

    Args:
        num_classes: K, 2 to 254.
        ignore_index: truth that is not counted.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Adds uint8 train ids of one shape.

        Raises:
            UserError: for shapes that differ, or ids outside the classes (also a prediction of ``ignore_index``).
        """
        self.matrix += self.count(prediction, label).to(self.matrix.device)

    def count(self, prediction: Tensor, label: Tensor) -> Tensor:
        """(K,K) int64 matrix of these uint8 train ids alone; raises as ``update``."""
        if prediction.shape != label.shape:
            raise UserError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} must have one shape")
        counts = joint_histogram(label, prediction)
        counts[self.ignore_index] = 0
        k = self.num_classes
        inside = counts[:k, :k]
        if int(inside.sum()) != int(counts.sum()):
            strange = sorted({*torch.nonzero(counts[k:].sum(1)).flatten().add(k).tolist()})
            predicted = sorted({*torch.nonzero(counts[:, k:].sum(0)).flatten().add(k).tolist()})
            raise UserError(
                f"ids outside 0..{k - 1} cannot be scored: in the label {strange or 'none'}, in the prediction"
                f" {predicted or 'none'}; map label values to classes or to {self.ignore_index} in the data config"
            )
        return inside

    def compute(self) -> Tensor:
        """(K,K) int64, rows truth, columns prediction."""
        return self.matrix.clone()


def joint_histogram(rows: Tensor, columns: Tensor) -> Tensor:
    """(256,256) int64: how often two uint8 tensors of one shape hold each pair of values at one place."""
    return _count_cuda(rows, columns) if rows.is_cuda else _count_cpu(rows, columns)


def _count_cpu(label: Tensor, prediction: Tensor) -> Tensor:
    """(256,256) int64 joint histogram; OpenCV's is several times faster than a bin count of 64-bit keys."""
    truth, predicted = (np.ascontiguousarray(t.numpy()).reshape(1, -1) for t in (label, prediction))
    counts = np.zeros((256, 256), np.int64)
    for start in range(0, truth.shape[1], _STRIP):
        strip = [array[:, start : start + _STRIP] for array in (truth, predicted)]
        counts += cv2.calcHist(strip, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return torch.from_numpy(counts)


def _count_cuda(label: Tensor, prediction: Tensor) -> Tensor:
    keys = label.flatten().to(torch.int32) * 256 + prediction.flatten()
    return torch.bincount(keys, minlength=1 << 16).view(256, 256)
