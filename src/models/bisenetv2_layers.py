"""The blocks of BiSeNet V2 (Yu et al., IJCV 2021, arXiv 2004.02147): stem, Gather-and-Expansion, Context Embedding, and
the aggregations of its two branches.

Where the text and public code differ an argument decides; see ``src.models.bisenetv2``.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..ops.resize import resize
from .checks import check_pooled
from .layers import ConvNormAct

__all__ = [
    "BilateralGuidedAggregation",
    "ContextEmbedding",
    "GatherExpansion",
    "PlainAggregation",
    "StemBlock",
    "Upsample",
]

Upsample = Literal["bilinear", "nearest"]


class StemBlock(nn.Module):
    """Stem of the Semantic Branch: (B,in_channels,H,W) -> (B,out_channels,H/4,W/4), an even width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels % 2:
            raise UserError(f"the stem gets {out_channels} channels; choose a channel_ratio that makes them even")
        self.first = ConvNormAct(in_channels, out_channels, stride=2)
        self.left = nn.Sequential(
            ConvNormAct(out_channels, out_channels // 2, kernel_size=1),
            ConvNormAct(out_channels // 2, out_channels, stride=2),
        )
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.merge = ConvNormAct(2 * out_channels, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.merge(torch.cat([self.left(x), self.right(x)], dim=1))


class GatherExpansion(nn.Module):
    """Gather-and-Expansion layer: (B,C,H,W) -> (B,out_channels,H/stride,W/stride).

    In the text the first 3x3 convolution expands, and only that gives the published costs; in public code it keeps C
    channels and the first depthwise convolution expands.

    Args:
        in_channels: C, must equal ``out_channels`` at stride 1.
        out_channels: channels of the result.
        stride: 1, or 2 with a second depthwise convolution and a projected shortcut.
        expansion: inner channels over C (epsilon, at least 1).
        expand_at: the layer that expands, ``"conv"`` or ``"depthwise"``.
        depthwise_relu: rectify before the projection (public code; the figure shows none).
        zero_init: start as the shortcut alone, with a zero scale in the last norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Literal[1, 2],
        expansion: int,
        expand_at: Literal["conv", "depthwise"],
        depthwise_relu: bool,
        zero_init: bool,
    ) -> None:
        super().__init__()
        inner = expansion * in_channels
        gathered = inner if expand_at == "conv" else in_channels
        self.gather = ConvNormAct(in_channels, gathered)
        depthwise = [(gathered, 2), (inner, 1)] if stride == 2 else [(gathered, 1)]
        self.depthwise = nn.Sequential(*(ConvNormAct(c, inner, stride=s, groups=c, act=False) for c, s in depthwise))
        self.act = nn.ReLU(inplace=True) if depthwise_relu else nn.Identity()
        self.project = ConvNormAct(inner, out_channels, kernel_size=1, act=False)
        if zero_init:
            nn.init.zeros_(self.project.norm.weight)
        self.shortcut = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(
                ConvNormAct(in_channels, in_channels, stride=2, groups=in_channels, act=False),
                ConvNormAct(in_channels, out_channels, kernel_size=1, act=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.project(self.act(self.depthwise(self.gather(x)))) + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """Context Embedding block, which adds the global average to every pixel: (B,C,H,W) -> (B,out_channels,H,W).

    With ``norm`` it ends in convolution, norm and ReLU (public code) instead of the figure's plain convolution. It
    refuses to train on one image, whose pooled map gives batch norm a single value per channel.
    """

    def __init__(self, channels: int, out_channels: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.embed = ConvNormAct(channels, channels, kernel_size=1)
        self.tail = ConvNormAct(channels, out_channels) if norm else nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        check_pooled(self.norm, x)
        return self.tail(x + self.embed(self.norm(x.mean(dim=(2, 3), keepdim=True))))


class BilateralGuidedAggregation(nn.Module):
    """Each branch, at its own resolution, is gated by the semantics; the detail features pass without a sigmoid.

    Args:
        channels: C of both branches and of the result.
        upsample: interpolation of both x4 upsamplings.
        gate_bias: bias of the two 1x1 convolutions that no norm follows.
        relu: rectify the result (public code; the figure shows none).
    """

    def __init__(self, channels: int, upsample: Upsample, *, gate_bias: bool, relu: bool) -> None:
        super().__init__()
        block = partial(ConvNormAct, channels, channels, act=False)
        point = partial(nn.Conv2d, channels, channels, 1, bias=gate_bias)
        self.upsample = upsample
        self.detail_keep = nn.Sequential(block(groups=channels), point())
        self.detail_down = nn.Sequential(block(stride=2), nn.AvgPool2d(3, stride=2, padding=1))
        self.semantic_up = block()
        self.semantic_keep = nn.Sequential(block(groups=channels), point())
        self.fuse = ConvNormAct(channels, channels, act=relu)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """(B,C,H/8,W/8) and (B,C,H/32,W/32) -> (B,C,H/8,W/8)."""
        size = detail.shape[-2:]
        fine = self.detail_keep(detail) * resize(self.semantic_up(semantic), size, self.upsample).sigmoid()
        coarse = self.detail_down(detail) * self.semantic_keep(semantic).sigmoid()
        return self.fuse(fine + resize(coarse, size, self.upsample))


class PlainAggregation(nn.Module):
    """The baselines of Table 2: sum or concatenation with the upsampled semantics, then a 3x3 convolution and norm.

    Shapes, ``upsample`` and ``relu`` are those of ``BilateralGuidedAggregation``.
    """

    def __init__(self, channels: int, upsample: Upsample, *, concat: bool, relu: bool) -> None:
        super().__init__()
        self.concat, self.upsample = concat, upsample
        self.fuse = ConvNormAct(2 * channels if concat else channels, channels, act=relu)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        semantic = resize(semantic, detail.shape[-2:], self.upsample)
        return self.fuse(torch.cat([detail, semantic], dim=1) if self.concat else detail + semantic)
