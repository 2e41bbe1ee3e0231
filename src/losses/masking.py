"""What the criteria share: which pixels count, what a channel stands for, and one factor per class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from src.errors import UserError

__all__ = ["as_class_weights", "channel_classes", "need_logit_per_class", "split_label", "weight_of_pixels"]


def split_label(logits: Tensor, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Target and mask of the pixels that count.

    Args:
        logits: (B,C,H,W).
        label: (B,H,W) integers.
        ignore_index: label value that takes no part.

    Returns:
        Class of each pixel (B,H,W) int64, 0 where it is ignored; and (B,H,W) bool, false there.

    Raises:
        ValueError: for shapes that do not fit each other, which would broadcast in silence.
    """
    if (logits.shape[0], *logits.shape[2:]) != tuple(label.shape):
        raise ValueError(f"logits {tuple(logits.shape)} do not fit a label of {tuple(label.shape)}")
    valid = label != ignore_index
    return label.long().where(valid, 0), valid


def channel_classes(logits: Tensor) -> Tensor:
    """(C,) int64: the class that each channel of (B,C,H,W) scores; a single one scores class 1 against class 0."""
    channels = logits.shape[1]
    return torch.arange(channels, device=logits.device) + (channels == 1)


def need_logit_per_class(name: str, logits: Tensor) -> None:
    """Refuse the logits of a net with one output channel.

    Raises:
        UserError: naming losses that can take them.
    """
    if logits.shape[1] == 1:
        raise UserError(
            f"loss={name} needs a logit per class, but the net has one in all (model.net.num_classes=1); choose"
            " loss=bce, bce_dice, dice, focal, lovasz or rmi, or set model.net.num_classes=2"
        )


def as_class_weights(weights: Sequence[float] | None) -> Tensor | None:
    """One factor per class as (K,) float32.

    Raises:
        UserError: for anything but numbers of 0 or more, of which one is above 0.
    """
    if weights is None:
        return None
    if not any(weights):
        raise UserError(f"class_weights={list(weights)} leaves nothing to learn; give some class a weight above 0")
    return torch.tensor(weights, dtype=torch.float32)


def weight_of_pixels(weights: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """(B,H,W) float32: the weight of each pixel's class, 0 where it is ignored.

    Raises:
        UserError: if there are more or fewer weights than classes.
    """
    if len(weights) != num_classes:
        raise UserError(
            f"data.class_weights has {len(weights)} entries but there are {num_classes} classes; give one per class"
        )
    return weights[target].where(valid, 0)
