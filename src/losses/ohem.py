"""Online hard example mining (Shrivastava et al. 2016) on pixels, as the BiSeNet authors' followers train it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError

__all__ = ["OHEMCrossEntropyLoss"]


class OHEMCrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the hard pixels: those whose true class gets less than ``threshold`` probability.

    Where fewer than ``min_kept`` of the valid pixels are hard, the hardest ``min_kept`` are taken instead.

    Args:
        threshold: probability below which a pixel is hard.
        min_kept: share of the batch's valid pixels that is always kept (1/16 in CoinCheung/BiSeNet).
        ignore_index: label value that takes no part.
    """

    def __init__(self, threshold: float = 0.7, min_kept: float = 1 / 16, ignore_index: int = 255) -> None:
        super().__init__()
        if not 0 < threshold <= 1 or not 0 <= min_kept <= 1:
            raise UserError(f"loss.threshold={threshold} must lie in (0, 1] and loss.min_kept={min_kept} in [0, 1]")
        self.hard_loss = -math.log(threshold)
        self.min_kept = min_kept
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) float logits and (B,H,W) integer label -> scalar in nats; 0 where nothing is valid."""
        target = label.long()
        losses = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none").flatten()
        hard = losses > self.hard_loss  # ignored pixels have loss 0 and are never hard
        # One wait for the device, for both counts; a sort of all pixels would avoid it and cost more.
        num_hard, num_valid = torch.stack([hard.sum(), (target != self.ignore_index).sum()]).tolist()
        num_kept = int(self.min_kept * num_valid)
        if num_hard >= max(1, num_kept):
            return (losses * hard).sum() / num_hard
        return losses.topk(max(1, num_kept)).values.mean()
