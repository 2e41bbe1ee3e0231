"""Blocks, initialisation and input checks shared by the nets; nothing here belongs to one paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from src.errors import UserError, nearest

__all__ = [
    "CeilMaxPool2d",
    "ConvNormAct",
    "FCNHead",
    "auxiliary_head",
    "check_choice",
    "check_count",
    "check_image",
    "check_pooled",
    "check_rates",
    "init_kaiming",
    "recompute",
    "scale_counts",
]


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm and (unless ``act`` is false) ReLU: (B,C,H,W) -> (B,out_channels,H',W').

    Zero padding keeps the size at stride 1 and gives ceil(size / stride) otherwise, for odd kernels. ``bias`` is the
    convolution's; the norm makes it redundant, but some references have it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        act: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm = nn.BatchNorm2d(out_channels)
        if act:
            self.act = nn.ReLU(inplace=True)


class CeilMaxPool2d(nn.MaxPool2d):
    """Max pooling of stride 2 that rounds sizes up, as ``ceil_mode`` does: (B,C,H,W) -> (B,C,H',W')."""

    def __init__(self, kernel_size: int, *, padding: int = 0) -> None:
        super().__init__(kernel_size, stride=2, padding=padding, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return super().forward(x)
        # ceil_mode compares sizes, which an exported graph must not; one more row and column have the same effect
        x = F.pad(x, (0, 1, 0, 1), value=-torch.inf)
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class FCNHead(nn.Module):
    """Convolution blocks, dropout of whole channels, 1x1 classifier: (B,in_channels,H,W) -> logits (B,num_classes,H,W).

    ``head.classify(head.convs(x))`` is the same in two steps, for nets that hand on what the classifier reads.

    Args:
        in_channels: channels of the feature map.
        channels: width of each block; empty leaves the classifier alone.
        num_classes: channels of the logits.
        kernel_size: of the blocks.
        bias: of the blocks' convolutions, see ``ConvNormAct``.
        dropout: share of channels that is zeroed in training, 0 to below 1.

    Raises:
        UserError: for another ``dropout``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        num_classes: int,
        *,
        kernel_size: int = 3,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise UserError(f"dropout is {dropout}; use a share of the channels from 0 to below 1")
        for width in channels:
            check_count("head width", width)
        widths = [in_channels, *channels]
        blocks = (ConvNormAct(before, after, kernel_size=kernel_size, bias=bias) for before, after in pairwise(widths))
        self.convs = nn.Sequential(*blocks)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(widths[-1], num_classes, 1)

    def classify(self, features: Tensor) -> Tensor:
        """(B,channels[-1],H,W) -> logits (B,num_classes,H,W)."""
        return self.classifier(self.dropout(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.convs(x))


def auxiliary_head(backbone: nn.Module, channels: int | None, num_classes: int) -> FCNHead | None:
    """The head on the backbone's last feature but one, as torchvision and mmsegmentation have it; ``None`` without it.

    Args:
        backbone: see ``src.models.backbones``.
        channels: width of the head's 3x3 convolution, or ``None``; its dropout is 0.1.
        num_classes: channels of the logits.

    Raises:
        UserError: for a width below 1.
    """
    if channels is None:
        return None
    check_count("aux_channels", channels)
    head = FCNHead(backbone.channels[-2], [channels], num_classes, dropout=0.1)
    init_kaiming(head)
    return head


@torch.compiler.disable(recursive=False)
def recompute(module: nn.Module, *inputs: Tensor) -> Any:
    """``module(*inputs)`` that keeps only the inputs for the backward pass and computes the rest again there.

    Gradients and running statistics are those of a plain call: the second pass leaves the statistics alone.
    """
    return checkpoint(
        module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _still_statistics(module))
    )


@contextmanager
def _still_statistics(module: nn.Module) -> Iterator[None]:
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.training and norm.num_batches_tracked is not None]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


def init_kaiming(module: nn.Module) -> None:
    """Kaiming-normal (fan-in) convolutions with zero biases (He et al. 2015); norms keep what they have."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def check_image(image: Tensor, *, in_channels: int, min_size: int) -> None:
    """Refuse what a net cannot take, from shape and dtype alone, so that nothing waits for the device.

    Args:
        image: should be (B,in_channels,H,W), floating point, with B >= 1 and H, W >= ``min_size`` pixels.

    Raises:
        UserError: naming what was expected and what was given.
    """
    wanted = f"a normalised float image batch (B,{in_channels},H,W)"
    if image.dim() != 4:
        raise UserError(
            f"the net takes {wanted}, got {image.dim()} dimensions {tuple(image.shape)}; add the missing axes"
        )
    if not image.is_floating_point():
        raise UserError(f"the net takes {wanted}, got {image.dtype}; convert and normalise it first")
    if image.shape[0] < 1:
        raise UserError(f"the net takes {wanted}, got an empty batch {tuple(image.shape)}; pass at least one image")
    if image.shape[1] != in_channels:
        raise UserError(f"the net takes {wanted}, got {image.shape[1]} channels; convert the image or set in_channels")
    if image.shape[2] < min_size or image.shape[3] < min_size:
        raise UserError(
            f"the net needs images of at least {min_size}x{min_size} pixels, got {image.shape[2]}x{image.shape[3]}"
            " (height x width); enlarge or pad them"
        )


def check_pooled(norm: nn.Module, x: Tensor) -> None:
    """Refuse to norm a map pooled to one pixel while training on one image: there is one value per channel.

    Raises:
        UserError: unless the norm is frozen or synchronised, which sees the images of the other devices too.
    """
    synchronised = (
        isinstance(norm, nn.SyncBatchNorm) and distributed.is_initialized() and distributed.get_world_size() > 1
    )
    if norm.training and x.shape[0] == 1 and not synchronised:
        raise UserError(
            "the net norms a map that is pooled to one pixel and cannot train on a batch of 1; use a batch of 2 or more"
        )


def check_rates(option: str, rates: Sequence[int]) -> None:
    """Refuse an empty list of atrous rates, and rates that are not whole or below 1.

    Raises:
        UserError: naming the option and its value.
    """
    if not rates or any(rate != int(rate) or rate < 1 for rate in rates):
        raise UserError(f"{option} is {list(rates)}; use one or more whole rates of 1 or more")


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not among ``choices``.

    Raises:
        UserError: naming the option, the value and the choices.
    """
    if value not in choices:
        raise UserError(f"{option} is '{value}'; use one of {', '.join(choices)}.{nearest(str(value), choices)}")


def check_count(option: str, value: int, least: int = 1) -> None:
    """Refuse a number that is not whole or is below ``least``.

    Raises:
        UserError: naming the option, the value and the limit.
    """
    if value != int(value) or value < least:
        raise UserError(f"{option} is {value}; use a whole number of {least} or more")


def scale_counts(counts: Sequence[int], factor: float, option: str, least: int = 1) -> list[int]:
    """Numbers of channels or layers times a multiplier.

    Raises:
        UserError: naming the option and the results, unless all are whole and ``least`` or more.
    """
    scaled = [count * factor for count in counts]
    if min(scaled) < least or any(abs(count - round(count)) > 1e-6 for count in scaled):
        given = ", ".join(f"{count:g}" for count in scaled)
        raise UserError(f"{option}={factor:g} gives {given} channels or layers; all must be whole and {least} or more")
    return [round(count) for count in scaled]
