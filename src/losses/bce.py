"""Sigmoid cross-entropy: every class against the rest, or one foreground class against the background."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..schema.faults import checked
from ..schema.types import Weights
from .masking import Criterion, split_label, weight_of_pixels

__all__ = ["BCELoss", "summed_bce"]


class BCELoss(Criterion):
    """Binary cross-entropy of sigmoids, summed over channels and averaged over valid pixels.

    The mean divides by the valid pixels and one more, as the term of the region mutual information loss does in
    ZJULearning/RMI and NVIDIA/semantic-segmentation, of which this is the whole when that loss is off.

    Args:
        ignore_index: label value that takes no part.
        class_weights: one factor per class for the pixels labelled with it; the mean is then over these factors.

    Raises:
        UserError: for weights that are no factors, or if their number is not the number of classes.
    """

    @checked("loss")
    def __init__(self, ignore_index: int = 255, *, class_weights: Weights | None = None) -> None:
        super().__init__(ignore_index, class_weights)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits and integer label (B,H,W) -> scalar in nats; 0 where nothing is valid.

        ``logits`` are (B,K,H,W) float, or (B,1,H,W) of class 1 against class 0.
        """
        target, valid = split_label(logits, label, self.ignore_index)
        losses = summed_bce(logits, target)
        if self.class_weights is None:
            return losses.where(valid, 0).sum() / (valid.sum() + 1)
        weights = weight_of_pixels(self.class_weights, target, valid, max(2, logits.shape[1]))
        return (losses.where(valid, 0) * weights).sum() / (weights.sum() + 1)


def summed_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over channels of the cross-entropy of each sigmoid, without a one-hot copy of the target.

    Args:
        logits: (B,K,H,W), or (B,1,H,W) of class 1 against class 0.
        target: (B,H,W) int64 classes, without ignored ones.

    Returns:
        (B,H,W) in nats.
    """
    own = logits[:, 0] * (target == 1) if logits.shape[1] == 1 else logits.gather(1, target[:, None])[:, 0]
    return F.softplus(logits).sum(1) - own  # log(1 + e^z) - z y
