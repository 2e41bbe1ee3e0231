"""Scores as pure functions of a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Scores"]


@dataclass(frozen=True)
class Scores:
    """What a (K,K) int64 confusion matrix (rows truth, columns prediction) says.

    A class that occurs in neither truth nor prediction has no IoU: it is ``nan`` in ``iou``, named in ``absent``, and
    left out of ``miou``.
    """

    matrix: Tensor

    @cached_property
    def iou(self) -> Tensor:
        """(K,) float64 intersection over union, 0..1, nan for absent classes."""
        matrix = self.matrix.double()
        hits = matrix.diagonal()
        return hits / (matrix.sum(0) + matrix.sum(1) - hits)

    @cached_property
    def absent(self) -> list[int]:
        """Train ids of classes in neither truth nor prediction."""
        return torch.nonzero(self.iou.isnan()).flatten().tolist()

    @cached_property
    def miou(self) -> float:
        """Mean IoU over the classes that occur; nan if none does."""
        return float(self.iou.nanmean())

    @cached_property
    def pixel_accuracy(self) -> float:
        """Share of valid pixels predicted right; nan if there is none."""
        return float(self.matrix.diagonal().sum() / self.matrix.sum().double())
