"""BiSeNet (Yu et al., ECCV 2018, arXiv 1808.00897), called V1 beside its successor: a shallow Spatial Path at 1/8 of
the image, a Context Path (a light trunk whose coarse maps are refined by attention and added on the way up), and a
Feature Fusion Module.

Defaults follow CoinCheung/BiSeNet (lib/models/bisenetv1.py), since the paper gives neither widths nor upsampling. Its
deviations from the paper: the Spatial Path starts with a 7x7 and ends in a 1x1 convolution, attention refines maps that
a 3x3 convolution has narrowed, and the gate of the fusion has one layer with a norm (``gate``). Our own: upsampling
aims at a target size, not at a fixed factor, so any image of 32x32 pixels or more is legal; the trunk is one of timm's,
which has no Xception39.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count
from .backbones import level_of_stride
from .checks import check_pooled
from .layers import ConvNormAct, FCNHead, init_kaiming
from .net import Backbone, Net

__all__ = ["BiSeNetV1"]

Upsample = Literal["nearest", "bilinear"]


class SpatialPath(nn.Sequential):
    """Three convolutions of stride 2 and a 1x1 projection: (B,in_channels,H,W) -> (B,channels,H/8,W/8)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        inner = channels // 2
        super().__init__(
            ConvNormAct(in_channels, inner, kernel_size=7, stride=2),
            ConvNormAct(inner, inner, stride=2),
            ConvNormAct(inner, inner, stride=2),
            ConvNormAct(inner, channels, kernel_size=1),
        )


class Gate(nn.Module):
    """Weights of the channels from their global averages: (B,C,H,W) -> (B,C,1,1), each between 0 and 1.

    Args:
        channels: C.
        kind: ``"norm"``, a 1x1 convolution and batch norm (the paper's refinement, public code); ``"bottleneck"``, two
            1x1 convolutions with a quarter of the channels and ReLU between them (the paper's fusion; the quarter is
            our choice).

    Raises:
        UserError: in training on one image, whose average gives batch norm a single value per channel.
    """

    def __init__(self, channels: int, kind: Literal["norm", "bottleneck"] = "norm") -> None:
        super().__init__()
        self.norm = None
        if kind == "norm":
            self.conv = nn.Conv2d(channels, channels, 1, bias=False)
            self.norm = nn.BatchNorm2d(channels)
        else:
            first, second = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
            self.conv = nn.Sequential(first, nn.ReLU(inplace=True), second)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv(x.mean(dim=(2, 3), keepdim=True))
        if self.norm is not None:
            check_pooled(self.norm, weights)
            weights = self.norm(weights)
        return weights.sigmoid()


class AttentionRefinement(nn.Module):
    """Attention Refinement Module: a narrowed map times its gate, (B,in_channels,H,W) -> (B,channels,H,W)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, channels)
        self.gate = Gate(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.gate(x)


class FeatureFusion(nn.Module):
    """Feature Fusion Module: both paths concatenated, projected, and their gated copy added.

    Args:
        channels: of each path; the result has twice as many.
        gate: see ``Gate``.
    """

    def __init__(self, channels: int, gate: Literal["norm", "bottleneck"]) -> None:
        super().__init__()
        self.project = ConvNormAct(2 * channels, 2 * channels, kernel_size=1)
        self.gate = Gate(2 * channels, gate)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """(B,C,H/8,W/8) twice -> (B,2C,H/8,W/8)."""
        x = self.project(torch.cat([spatial, context], dim=1))
        return x + x * self.gate(x)


class ContextPath(nn.Module):
    """Attention on a trunk's maps at 1/16 and 1/32, and the way up to 1/8 of the image.

    Args:
        backbone: the trunk, which stays outside.
        channels: C, width of the way up.
        upsample: interpolation of its two steps.
    """

    def __init__(self, backbone: Backbone, channels: int, upsample: Upsample) -> None:
        super().__init__()
        self.levels = [level_of_stride(backbone, stride, "BiSeNetV1") for stride in (16, 32)]
        width16, width32 = (backbone.channels[level] for level in self.levels)
        self.upsample = upsample
        self.pooled = ConvNormAct(width32, channels, kernel_size=1)
        self.refine16 = AttentionRefinement(width16, channels)
        self.refine32 = AttentionRefinement(width32, channels)
        self.smooth16 = ConvNormAct(channels, channels)
        self.smooth32 = ConvNormAct(channels, channels)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The trunk's features -> (B,C,*size) at 1/8 and (B,C,h,w) at 1/16 of the image."""
        x16, x32 = (features[level] for level in self.levels)
        mean = x32.mean(dim=(2, 3), keepdim=True)
        check_pooled(self.pooled.norm, mean)
        x = self.refine32(x32) + self.pooled(mean)
        coarse = self.smooth32(resize(x, x16.shape[-2:], self.upsample))
        fine = self.smooth16(resize(self.refine16(x16) + coarse, size, self.upsample))
        return fine, coarse


class BiSeNetV1(Net):
    """BiSeNet with any trunk; the paper's larger model has ResNet-18.

    ``decode`` gives ``logits`` at 1/8 of the image and, in training, ``aux_16`` at 1/8 and ``aux_32`` at 1/16: the
    Context Path after its refinement at stride 16 and 32.

    Args:
        num_classes: K, see ``Net``.
        backbone: trunk with features at strides 16 and 32, see ``src.models.backbones``.
        in_channels: channels of the image; the trunk's must be the same.
        channels: width of each path, a multiple of 4; the head is twice as wide, auxiliary heads have half of it.
        upsample: interpolation in the Context Path.
        gate: of the fusion, see ``Gate``.

    Raises:
        UserError: for a value outside these limits, or a trunk without these strides.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        in_channels: Channels = 3,
        channels: Channels = 128,
        upsample: Upsample = "nearest",
        gate: Literal["norm", "bottleneck"] = "norm",
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        if channels % 4:
            raise UserError(f"channels is {channels}; use a multiple of 4")
        self.feature_channels = 2 * channels
        self.spatial = SpatialPath(in_channels, channels)
        self.context = ContextPath(backbone, channels, upsample)
        self.fuse = FeatureFusion(channels, gate)
        self.head = FCNHead(2 * channels, (2 * channels,), num_classes)
        self.aux_heads = nn.ModuleDict(
            {name: FCNHead(channels, (channels // 2,), num_classes) for name in ("16", "32")}
        )
        for part in self.children():
            init_kaiming(part)
        self.backbone = backbone  # keeps its own initialisation

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Logits before the last resize.

        Args:
            image: (B,in_channels,H,W) normalised float, H and W at least 32, B at least 2 in training.

        Raises:
            UserError: for any other input.
        """
        self.check(image)
        spatial = self.spatial(image)
        fine, coarse = self.context(self.backbone(image), spatial.shape[-2:])
        features = self.head.convs(self.fuse(spatial, fine))
        outputs = {"features": features, "logits": self.head.classify(features)}
        if self.training:
            outputs |= {"aux_16": self.aux_heads["16"](fine), "aux_32": self.aux_heads["32"](coarse)}
        return outputs
