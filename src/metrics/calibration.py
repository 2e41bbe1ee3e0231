"""Calibration: is a pixel that the net is 80 % sure of right in 80 % of cases?

Naeini, Cooper, Hauskrecht, AAAI 2015; Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML
2017, section 2: fifteen bins of equal width. Confidence comes in 255ths, and seventeen of them are exactly one bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torchmetrics import Metric

from .confusion import joint_histogram

__all__ = ["Calibration", "CalibrationCounts"]

_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """What (2,256) int64 counts of pixels say: wrong and right ones by floor(255 p) of their top probability p."""

    counts: Tensor

    @cached_property
    def bins(self) -> Tensor:
        """(15,3) float64: pixels, mean confidence and accuracy in each bin; the last two are nan in an empty one."""
        level = ((torch.arange(256, dtype=torch.float64) + 0.5) / 255).clamp(max=1)
        index = torch.arange(256).div(256 // _BINS, rounding_mode="floor").clamp(max=_BINS - 1)
        wrong, right = self.counts.double()
        each = torch.stack([wrong + right, (wrong + right) * level, right], dim=1)
        pixels, confidence, hits = torch.zeros(_BINS, 3, dtype=torch.float64).index_add_(0, index, each).T
        return torch.stack([pixels, confidence / pixels, hits / pixels], dim=1)

    @cached_property
    def error(self) -> float:
        """Expected calibration error, 0..1, to 1/510: |accuracy - confidence|, weighted by pixels; nan without any."""
        pixels, confidence, accuracy = self.bins.T
        gaps = (pixels / pixels.sum() * (accuracy - confidence).abs()).nansum()
        return float(gaps) if pixels.sum() else float("nan")


class CalibrationCounts(Metric):
    """Streaming counts for ``Calibration``.

    Args:
        ignore_index: truth that is not counted.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.add_state("counts", torch.zeros(2, 256, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor, confidence: Tensor) -> None:
        """Adds uint8 tensors of one shape: train ids twice, and floor(255 p)."""
        outcome = (prediction == label).to(torch.uint8).masked_fill_(label == self.ignore_index, 2)
        self.counts += joint_histogram(outcome, confidence)[:2].to(self.counts.device)

    def compute(self) -> Tensor:
        """(2,256) int64, see ``Calibration``."""
        return self.counts.clone()
