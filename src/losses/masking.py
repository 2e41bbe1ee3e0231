"""What the criteria share: a base class, which pixels count, what a channel stands for, and one factor per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError

__all__ = ["Criterion", "channel_classes", "need_logit_per_class", "split_label", "weight_of_pixels"]


class Criterion(nn.Module):
    """Base of the criteria: ``forward(logits, label)`` gives a scalar.

    Args:
        ignore_index: label value that takes no part.
        class_weights: one factor per class, kept as a (K,) float32 buffer that is not saved; ``None`` for none.

    Raises:
        UserError: for factors that are all 0.
    """

    class_weights: Tensor | None

    def __init__(self, ignore_index: int = 255, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        if class_weights is not None and not any(class_weights):
            raise UserError(
                f"class_weights={list(class_weights)} leaves nothing to learn; give some class a weight above 0"
            )
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def logged(self) -> Mapping[str, Tensor]:
        """Scalars beside the loss that are logged in each training step, by name, as ``train/<name>``."""
        return {}


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
