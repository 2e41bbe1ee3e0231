"""Boundary IoU: how well the outlines of classes agree, whatever the size of what they enclose.

Cheng, Girshick, Dollár, Berg, Kirillov: Boundary IoU, CVPR 2021. For each class, the pixels of its mask that lie
within a distance d of the mask's outline are kept in truth and prediction, and the IoU of these two bands is taken; d
is 2 % of the image's diagonal. As in the released code the distance is that of a square (erosion by 3x3, d times), at
least one pixel, and the image's edge is an outline. The paper scores one mask; here the two bands of each class are
counted over all images, as the IoU's pixels are.

Truth that is ignored is no class, in the prediction as well: a prediction that is right wherever there is truth has 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from .confusion import joint_histogram

__all__ = ["BoundaryCounts", "BoundaryScores", "boundary"]

_OUTSIDE = 254  # neither class nor ignored


@dataclass(frozen=True)
class BoundaryScores:
    """What (3,K) int64 counts of pixels in bands say: in both, of the truth, of the prediction."""

    counts: Tensor

    @cached_property
    def iou(self) -> Tensor:
        """(K,) float64, 0..1, nan for classes in neither truth nor prediction."""
        both, truth, predicted = self.counts.double()
        return both / (truth + predicted - both)

    @cached_property
    def miou(self) -> float:
        """Mean over the classes that occur; nan if none does."""
        return float(self.iou.nanmean())


class BoundaryCounts(Metric):
    """Streaming counts for ``BoundaryScores``.

    Args:
        num_classes: K, 2 to 253.
        ratio: d as a share of the image's diagonal.
        ignore_index: truth that is not counted.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, *, ratio: float = 0.02, ignore_index: int = 255) -> None:
        super().__init__()
        self.ratio = ratio
        self.ignore_index = ignore_index
        self.add_state("counts", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Adds (B,H,W) uint8 train ids."""
        classes = self.counts.shape[1]
        for truth, predicted in zip(label.cpu().numpy(), prediction.cpu().numpy(), strict=True):
            distance = max(1, round(self.ratio * float(np.hypot(*truth.shape))))
            ignored = truth == self.ignore_index
            predicted = np.where(ignored, np.uint8(self.ignore_index), predicted)
            bands = [np.where(boundary(each, distance), each, np.uint8(255)) for each in (truth, predicted)]
            joint = joint_histogram(*map(torch.from_numpy, bands))
            counts = torch.stack([joint.diagonal(), joint.sum(1), joint.sum(0)])[:, :classes]
            self.counts += counts.to(self.counts.device)

    def compute(self) -> Tensor:
        """(3,K) int64, see ``BoundaryScores``."""
        return self.counts.clone()


def boundary(label: np.ndarray, distance: int) -> np.ndarray:
    """(H,W) bool: pixels with another value, or the outside of the image, at most ``distance`` rows and columns away.

    Of a class these are its mask without the mask eroded ``distance`` times by 3x3: all classes take one pass, since a
    pixel is eroded from its own class exactly if the lowest and the highest id around it differ.

    Args:
        label: (H,W) uint8 ids other than 254.
        distance: in pixels, 1 or more.
    """
    padded = cv2.copyMakeBorder(label, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_OUTSIDE)
    square = np.ones((3, 3), np.uint8)
    lowest, highest = (morph(padded, square, iterations=distance) for morph in (cv2.erode, cv2.dilate))
    return (lowest != highest)[1:-1, 1:-1]
