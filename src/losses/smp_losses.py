"""Dice, Lovász and focal loss of segmentation_models_pytorch (MIT), an optional package, under this project's rules.

Its losses know an ignored label, but not what to do with nothing else: Lovász then gives an empty tensor and focal not
a number. Dice divides by all classes, so that a class counts less when few occur in a batch. The adapters correct that,
and choose the binary mode for logits of one channel, which score class 1 against class 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files.project import pip_install
from ..schema.faults import checked
from ..schema.types import NotNegative, Share
from .masking import Criterion, split_label

__all__ = ["DiceLoss", "FocalLoss", "LovaszLoss"]


class DiceLoss(Criterion):
    """One minus the soft Dice score over the batch's valid pixels, mean over the classes that occur.

    Args:
        smooth: added to numerator and denominator of the score.
        log_loss: minus the logarithm of the score instead.
        ignore_index: label value that takes no part.

    Raises:
        UserError: if the package is missing, or for a negative ``smooth``.
    """

    @checked("loss")
    def __init__(self, *, smooth: NotNegative = 0.0, log_loss: bool = False, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.by_mode = _by_mode("DiceLoss", smooth=smooth, log_loss=log_loss, ignore_index=ignore_index)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) or (B,1,H,W) float logits and (B,H,W) integer label -> scalar; 0 where nothing is valid."""
        target, valid = split_label(logits, label, self.ignore_index)
        channels = logits.shape[1]
        loss = self.by_mode[_mode(logits)](logits, label.long())
        if channels == 1:
            return loss
        occurs = torch.zeros(channels + 1, device=logits.device)
        occurs.scatter_(0, target.where(valid, channels).flatten(), 1.0)
        return loss * channels / occurs[:channels].sum().clamp(min=1)


class LovaszLoss(Criterion):
    """Lovász-softmax over the batch's valid pixels, mean over the classes that occur; the hinge for one channel.

    Args:
        ignore_index: label value that takes no part.

    Raises:
        UserError: if the package is missing.
    """

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.by_mode = _by_mode("LovaszLoss", ignore_index=ignore_index)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) or (B,1,H,W) float logits and (B,H,W) integer label -> scalar; 0 where nothing is valid."""
        split_label(logits, label, self.ignore_index)
        return self.by_mode[_mode(logits)](logits, label.long()).sum()  # of a scalar, or of nothing at all


class FocalLoss(Criterion):
    """Focal loss (Lin et al. 2017) of sigmoids, mean over valid pixels and channels.

    Args:
        gamma: exponent on what is missing to certainty, 0 or from 1 on.
        alpha: weight of a class against 1 - alpha of the rest, ``None`` for neither.
        ignore_index: label value that takes no part.

    Raises:
        UserError: if the package is missing, or for values outside these limits.
    """

    @checked("loss")
    def __init__(self, *, gamma: NotNegative = 2.0, alpha: Share | None = None, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if 0 < gamma < 1:
            raise UserError(f"loss.gamma={gamma} must be 0, or 1 or more: between, certain pixels have no gradient")
        if alpha in (0, 1):
            raise UserError(f"loss.alpha={alpha} must lie in (0, 1), or be null")
        self.by_mode = _by_mode("FocalLoss", gamma=gamma, alpha=alpha, ignore_index=ignore_index, reduction="sum")

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) or (B,1,H,W) float logits and (B,H,W) integer label -> scalar; 0 where nothing is valid."""
        _, valid = split_label(logits, label, self.ignore_index)
        return self.by_mode[_mode(logits)](logits, label.long()) / valid.sum().clamp(min=1)


def _mode(logits: Tensor) -> str:
    return "binary" if logits.shape[1] == 1 else "multiclass"


def _by_mode(name: str, **options: Any) -> nn.ModuleDict:
    """The package's loss of that name for each of the two modes."""
    try:
        from segmentation_models_pytorch import losses
    except ImportError as error:
        raise UserError(
            f"loss={name.removesuffix('Loss').lower()} needs an optional package; install it with:"
            f" {pip_install('smp', 'segmentation-models-pytorch==0.6.0')}"
        ) from error
    return nn.ModuleDict({mode: getattr(losses, name)(mode, **options) for mode in ("binary", "multiclass")})
