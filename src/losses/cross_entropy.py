"""Pixel-wise cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy over valid pixels, optionally weighted by class.

    Args:
        ignore_index: label value that takes no part.
        class_weights: one factor per class; the mean is then over the weights of the valid pixels.
        label_smoothing: share of the target spread evenly over the classes.

    Raises:
        UserError: for a smoothing outside 0..1, or if the number of weights is not the number of classes in the logits.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"loss.label_smoothing={label_smoothing} must lie in [0, 1)")
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) float logits and (B,H,W) integer label -> scalar in nats; 0 where nothing is valid."""
        weights = self.class_weights
        if weights is not None and len(weights) != logits.shape[1]:
            raise UserError(
                f"loss.class_weights has {len(weights)} entries but there are {logits.shape[1]} classes; give"
                " one per class"
            )
        target = label.long()
        total = F.cross_entropy(
            logits,
            target,
            weight=weights,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        valid = target != self.ignore_index
        if weights is None:
            return total / valid.sum().clamp(min=1)
        share = weights[target.where(valid, 0)].where(valid, 0).sum()
        return total / share.clamp(min=torch.finfo(share.dtype).tiny)
