"""Scores as pure functions of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Scores"]


@dataclass(frozen=True)
class Scores:
    """What a (K,K) int64 confusion matrix (rows truth, columns prediction) says.

    A class that occurs in neither truth nor prediction has no IoU: it is ``nan`` in ``iou``, named in ``absent``, and
    left out of ``miou``. One that does not occur in the truth has no accuracy, and is left out of its mean.
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

    @cached_property
    def accuracy(self) -> Tensor:
        """(K,) float64 share of each class's pixels predicted right (recall), nan where the truth has none."""
        matrix = self.matrix.double()
        return matrix.diagonal() / matrix.sum(1)

    @cached_property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the classes of the truth; nan if there is none."""
        return float(self.accuracy.nanmean())

    @cached_property
    def frequency_weighted_iou(self) -> float:
        """IoU weighted by the share of the truth (Long et al. 2015, section 5); nan if there is no pixel."""
        truth = self.matrix.sum(1).double()
        return float((truth / truth.sum() * self.iou).nansum()) if truth.sum() else float("nan")

    @cached_property
    def truth_share(self) -> list[float]:
        """The share of each class in the pixels of the truth, 0..1; nan if there is no pixel."""
        return (self.matrix.sum(1) / self.matrix.sum()).tolist()

    def grouped(self, categories: Sequence[str]) -> Scores:
        """The scores of categories: a class taken for another of its own category is a hit (Cordts et al. 2016).

        Args:
            categories: the category of each class; they are numbered in the order in which they first occur.
        """
        names = list(dict.fromkeys(categories))
        group = torch.tensor([names.index(category) for category in categories])
        rows = torch.zeros(len(names), len(categories), dtype=torch.int64).index_add_(0, group, self.matrix)
        return Scores(torch.zeros(len(names), len(names), dtype=torch.int64).index_add_(1, group, rows))
