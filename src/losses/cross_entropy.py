"""Pixel-wise softmax cross-entropy, plain and with weights that every batch gives itself."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import NotNegative, Share, Weights
from .masking import Criterion, need_logit_per_class, split_label, weight_of_pixels

__all__ = ["CrossEntropyLoss", "ImageWeightedCELoss"]


class CrossEntropyLoss(Criterion):
    """Mean or summed cross-entropy over valid pixels, optionally weighted by class.

    Args:
        ignore_index: label value that takes no part.
        class_weights: one factor per class; the mean is then over the weights of the valid pixels.
        label_smoothing: share of the target spread evenly over the classes.
        reduction: ``"mean"``, or ``"sum"`` over all pixels of the batch, for which the authors' code of FCN (arXiv
            1605.06211) has its learning rates.

    Raises:
        UserError: for a smoothing outside 0..1, another reduction, weights that are no factors, or another number of
            them than classes.
    """

    @checked("loss")
    def __init__(
        self,
        ignore_index: int = 255,
        *,
        class_weights: Weights | None = None,
        label_smoothing: Share = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if label_smoothing == 1:
            raise UserError(f"loss.label_smoothing={label_smoothing} must lie in [0, 1)")
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) float logits and (B,H,W) integer label -> scalar in nats; 0 where nothing is valid."""
        need_logit_per_class("cross_entropy", logits)
        target, valid = split_label(logits, label, self.ignore_index)
        weights = self.class_weights
        if weights is None:
            share = valid.sum().clamp(min=1)
        else:
            share = weight_of_pixels(weights, target, valid, logits.shape[1]).sum()
            share = share + (share == 0)  # where all classes of the batch weigh nothing
        total = F.cross_entropy(
            logits,
            label.long(),
            weight=weights,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return total if self.reduction == "sum" else total / share


class ImageWeightedCELoss(Criterion):
    """Cross-entropy whose classes weigh the more the rarer they are in the batch.

    NVIDIA/semantic-segmentation's loss of that name, which, too, counts the whole batch and not each image: weighted
    mean over the pixels of each image, summed over images, so the value grows with the batch.

    Args:
        upper_bound: weights are ``1 + upper_bound * (1 - share)`` for classes that occur, else 1.
        norm: ``1 + upper_bound / share`` instead.
        ignore_index: label value that takes no part.

    Raises:
        UserError: for a negative bound.
    """

    @checked("loss")
    def __init__(self, *, upper_bound: NotNegative = 1.0, norm: bool = False, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.upper_bound, self.norm = upper_bound, norm

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) float logits and (B,H,W) integer label -> scalar in nats; 0 where nothing is valid."""
        need_logit_per_class("image_weighted_ce", logits)
        target, valid = split_label(logits, label, self.ignore_index)
        counts = target.new_zeros(logits.shape[1], dtype=torch.float32)
        counts.scatter_add_(0, target.flatten(), valid.flatten().float())
        share = counts / counts.sum().clamp(min=1)
        rarity = 1 / share.where(counts > 0, 1) if self.norm else 1 - share
        weights = 1 + self.upper_bound * rarity.where(counts > 0, 0)
        losses = F.cross_entropy(logits, label.long(), weight=weights, ignore_index=self.ignore_index, reduction="none")
        return (losses.sum((1, 2)) / weights[target].where(valid, 0).sum((1, 2)).clamp(min=1)).sum()
