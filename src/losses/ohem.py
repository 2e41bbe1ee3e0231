"""Online hard example mining (Shrivastava et al. 2016) on pixels, as the BiSeNet authors' followers and ANN train."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import Between, NotNegative, Weights
from .masking import Criterion, need_logit_per_class, split_label, weight_of_pixels

__all__ = ["OHEMCrossEntropyLoss"]


class OHEMCrossEntropyLoss(Criterion):
    """Mean cross-entropy over the hard pixels: those whose true class gets less than ``threshold`` probability.

    Where fewer than ``min_kept`` of the valid pixels are hard, the hardest ``min_kept`` are taken instead.

    Args:
        threshold: probability below which a pixel is hard.
        min_kept: what is always kept: up to 1 a share of the batch's valid pixels (1/16 in CoinCheung/BiSeNet), above 1
            a number of pixels for each image (mmsegmentation 10,000; MendelXu/ANN 100,000).
        ignore_index: label value that takes no part.
        class_weights: one factor per class on the loss of its pixels. They do not decide which pixels are hard, and
            the mean is over pixels, not over weights, as in MendelXu/ANN.

    Raises:
        UserError: for a threshold outside (0, 1), a negative ``min_kept``, or weights that do not fit.
    """

    @checked("loss")
    def __init__(
        self,
        threshold: Between = 0.7,
        min_kept: NotNegative = 1 / 16,
        ignore_index: int = 255,
        *,
        class_weights: Weights | None = None,
    ) -> None:
        super().__init__(ignore_index, class_weights)
        if min_kept > 1 and min_kept != int(min_kept):
            raise UserError(
                f"loss.min_kept={min_kept} must be a share of the valid pixels in [0, 1], or a whole number of pixels"
            )
        self.hard_loss = -math.log(threshold)
        self.min_kept = min_kept

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) float logits and (B,H,W) integer label -> scalar in nats; 0 where nothing is valid."""
        need_logit_per_class("ohem", logits)
        target, valid = split_label(logits, label, self.ignore_index)
        losses = F.cross_entropy(logits, label.long(), ignore_index=self.ignore_index, reduction="none").flatten()
        hard = losses > self.hard_loss  # ignored pixels have loss 0 and are never hard
        weighted = losses
        if self.class_weights is not None:
            weighted = losses * weight_of_pixels(self.class_weights, target, valid, logits.shape[1]).flatten()
        # One wait for the device, for both counts; a sort of all pixels would avoid it and cost more.
        num_hard, num_valid = torch.stack([hard.sum(), valid.sum()]).tolist()
        wanted = self.min_kept * (num_valid if self.min_kept <= 1 else len(label))
        num_kept = max(1, min(int(wanted), num_valid))
        if num_hard >= num_kept:
            return (weighted * hard).sum() / num_hard
        return weighted[losses.topk(num_kept).indices].mean()
