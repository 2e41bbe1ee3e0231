"""Blocks and initialisation shared by the nets; nothing here belongs to one paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .checks import check_dropout
from .net import Backbone

__all__ = [
    "CeilMaxPool2d",
    "ConvNormAct",
    "FCNHead",
    "auxiliary_head",
    "dilate",
    "init_kaiming",
    "recompute",
]


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm and (unless ``act`` is false) ReLU: (B,C,H,W) -> (B,out_channels,H',W').

    Zero padding keeps the size at stride 1 and gives ceil(size / stride) otherwise, for odd kernels. ``bias`` is the
    convolution's; the norm makes it redundant, but some references have it.
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d

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

    def forward(self, input: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return super().forward(input)
        # ceil_mode compares sizes, which an exported graph must not; one more row and column have the same effect
        padded = F.pad(input, (0, 1, 0, 1), value=-torch.inf)
        return F.max_pool2d(padded, self.kernel_size, self.stride, self.padding)


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
        check_dropout("dropout", dropout)
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


def auxiliary_head(backbone: Backbone, channels: int | None, num_classes: int) -> FCNHead | None:
    """The head on the backbone's last feature but one, as torchvision and mmsegmentation have it; ``None`` without it.

    Args:
        backbone: see ``src.models.backbones``.
        channels: width of the head's 3x3 convolution, or ``None``; its dropout is 0.1.
        num_classes: channels of the logits.
    """
    if channels is None:
        return None
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
    kept = []
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.training and norm.num_batches_tracked is not None:
            kept.append((norm, norm.momentum, norm.num_batches_tracked))
            norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, counter in kept:
            norm.momentum, norm.num_batches_tracked = momentum, counter


def dilate(module: nn.Module, rate: int, *, padding: int | None = None) -> None:
    """Give the 3x3 convolutions of a trunk's part an atrous rate; they keep the size unless ``padding`` is given."""
    padding = rate if padding is None else padding
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            conv.dilation, conv.padding = (rate, rate), (padding, padding)


def init_kaiming(module: nn.Module) -> None:
    """Kaiming-normal (fan-in) convolutions with zero biases (He et al. 2015); norms keep what they have."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
