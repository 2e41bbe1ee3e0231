"""VGG-16 (Simonyan and Zisserman, arXiv 1409.1556) as FCN and DeepLab use it: fc6 and fc7 are convolutions.

Plain, it is the net of FCN (arXiv 1411.4038): five 2x2 poolings that round sizes up, fc6 7x7. Dilated, it has DeepLab
v1's surgery (arXiv 1412.7062, section 3): poolings are 3x3, the last two have stride 1, conv5 has rate 2, and fc6 has a
kernel, a rate and a width to choose; DeepLab v2 (arXiv 1606.00915) has several fc6 of different rates side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import Channels, Count, Share
from .checks import check_dropout, check_rates
from .layers import CeilMaxPool2d, init_kaiming
from .net import Backbone
from .timm_trunks import create_trunk

__all__ = ["VGG16", "check_one_fc"]

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # conv1_1 to conv5_3
FC6_KERNEL, FC_CHANNELS = 7, 4096  # of the classifier that ImageNet weights come with


class FullyConnected(nn.Sequential):
    """fc6 and fc7 as convolutions, each with ReLU and dropout: (B,512,h,w) -> (B,channels,h,w)."""

    fc6: nn.Conv2d
    fc7: nn.Conv2d

    def __init__(self, channels: int, *, kernel_size: int, rate: int, dropout: float) -> None:
        super().__init__()
        padding = (kernel_size - 1) * rate // 2
        self.fc6 = _Fc6(WIDTHS[-1][-1], channels, kernel_size, padding=padding, dilation=rate)
        self.act6, self.dropout6 = nn.ReLU(inplace=True), nn.Dropout(dropout)
        self.fc7 = nn.Conv2d(channels, channels, 1)
        self.act7, self.dropout7 = nn.ReLU(inplace=True), nn.Dropout(dropout)


class _Fc6(nn.Conv2d):
    """On the CPU, a dilated fc6 of 7x7 is trained in two halves: of all its 103 M weights at once oneDNN computes the
    gradient by plain loops, in minutes an image.
    """

    def forward(self, input: Tensor) -> Tensor:
        small = self.dilation == (1, 1) or self.weight.numel() < 1 << 26
        if not self.training or input.is_cuda or small or self.bias is None:
            return super().forward(input)
        halves = zip(self.weight.chunk(2), self.bias.chunk(2), strict=True)
        maps = [F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation) for weight, bias in halves]
        return torch.cat(maps, dim=1)


class VGG16(Backbone):
    """VGG-16 behind the backbone contract: image -> pool1 to pool4, then fc7, once per rate of fc6.

    Args:
        in_channels: channels of the image.
        dilated: DeepLab's surgery, which ends at 1/8 of the image; else FCN's, which ends at 1/32.
        average_pool: 3x3 average pooling before fc6 (released DeepLab v1).
        fc6_kernel: side of fc6's kernel.
        fc6_rates: atrous rates of fc6; each has an fc6 and an fc7 of its own.
        fc_channels: width of fc6 and fc7.
        dropout: share that is zeroed after fc6 and fc7 in training.
        pretrained: ``true`` for timm's ImageNet weights of ``vgg16``, or the path of a file that holds them. A narrower
            fc6 and fc7 keep a random subset of the filters, always the same; a smaller fc6 kernel keeps every second or
            third row and column (DeepLab v1, section 3.1).

    Raises:
        UserError: for values outside these limits, or missing weights.
    """

    @checked("model.net.backbone")
    def __init__(
        self,
        *,
        in_channels: Channels = 3,
        dilated: bool = False,
        average_pool: bool = False,
        fc6_kernel: Count = FC6_KERNEL,
        fc6_rates: Sequence[Count] = (1,),
        fc_channels: Channels = FC_CHANNELS,
        dropout: Share = 0.5,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        _check_fc(fc6_kernel, fc6_rates, fc_channels, dropout, pretrained)
        self.stages, self.pools = nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for stage, widths in enumerate(WIDTHS, start=1):
            rate = 2 if dilated and stage == 5 else 1
            self.stages.append(_convs((before, *widths), rate))
            stride = 1 if dilated and stage > 3 else 2
            self.pools.append(nn.MaxPool2d(3, stride, padding=1) if dilated else CeilMaxPool2d(2))
            before = widths[-1]
        self.average_pool = nn.AvgPool2d(3, 1, padding=1) if average_pool else nn.Identity()
        fc = [FullyConnected(fc_channels, kernel_size=fc6_kernel, rate=rate, dropout=dropout) for rate in fc6_rates]
        self.fc = nn.ModuleList(fc)
        self.dilated = dilated
        self.channels = [widths[-1] for widths in WIDTHS[:4]] + [fc_channels] * len(fc)
        self.strides = [2, 4, 8, 8, *[8] * len(fc)] if dilated else [2, 4, 8, 16, *[32] * len(fc)]
        init_kaiming(self)
        if pretrained:
            self._load(create_trunk(name="vgg16", pretrained=pretrained, in_chans=in_channels))

    @property
    def branches(self) -> list[FullyConnected]:
        """fc6 and fc7 of each rate."""
        return cast("list[FullyConnected]", list(self.fc))

    def pad_100(self) -> None:
        """FCN's border: conv1_1 pads 100 pixels and fc6 none, so that the scores cover more than any image."""
        first = next(part for part in self.stages.modules() if isinstance(part, nn.Conv2d))
        first.padding = (100, 100)
        for fc in self.branches:
            fc.fc6.padding = (0, 0)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> maps at ``strides``, fine to coarse, of ``channels``."""
        features, x = [], image
        for stage, pool in zip(self.stages, self.pools, strict=True):
            x = pool(stage(x))
            features.append(x)
        x = self.average_pool(features.pop())
        return features + [fc(x) for fc in self.fc]

    @torch.no_grad()
    def _load(self, trunk: Any) -> None:
        """Copy timm's weights, thinned to the size of fc6 and fc7."""
        self.pretrained_cfg = trunk.pretrained_cfg
        own = [part for part in self.stages.modules() if isinstance(part, nn.Conv2d)]
        theirs = [part for part in trunk.features.modules() if isinstance(part, nn.Conv2d)]
        for conv, source in zip(own, theirs, strict=True):
            conv.load_state_dict(source.state_dict())
        fc6, fc7 = trunk.pre_logits.fc1, trunk.pre_logits.fc2
        for branch, fc in enumerate(self.branches):
            generator = torch.Generator().manual_seed(branch)
            channels, kernel = fc.fc6.out_channels, fc.fc6.kernel_size[0]
            kept6, kept7 = (torch.randperm(FC_CHANNELS, generator=generator)[:channels].sort().values for _ in range(2))
            grid = torch.linspace(0, FC6_KERNEL - 1, kernel).round().long() if kernel > 1 else [FC6_KERNEL // 2]
            fc.fc6.load_state_dict({"weight": fc6.weight[kept6][:, :, grid][..., grid], "bias": fc6.bias[kept6]})
            fc.fc7.load_state_dict({"weight": fc7.weight[kept7][:, kept6], "bias": fc7.bias[kept7]})


def check_one_fc(backbone: Backbone) -> None:
    """Refuse a VGG-16 of which a net would read one fc7 and leave the others without gradient.

    Raises:
        UserError: naming its rates.
    """
    if isinstance(backbone, VGG16) and len(backbone.channels) > len(WIDTHS):
        rates = [fc.fc6.dilation[0] for fc in backbone.branches]
        raise UserError(f"fc6_rates is {rates}, but the net reads one fc7; give one rate, or use model=deeplab_v2_vgg")


def _convs(widths: Sequence[int], rate: int) -> nn.Sequential:
    """3x3 convolutions with ReLU between these widths."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=rate, dilation=rate), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _check_fc(kernel: int, rates: Sequence[int], channels: int, dropout: float, pretrained: bool | str) -> None:
    check_rates("fc6_rates", rates)
    check_dropout("dropout", dropout)
    if any((kernel - 1) * rate % 2 for rate in rates):
        raise UserError(f"fc6_kernel={kernel} is even and needs even fc6_rates to keep the size, got {list(rates)}")
    if pretrained and (kernel > FC6_KERNEL or channels > FC_CHANNELS):
        raise UserError(
            f"fc6_kernel={kernel} and fc_channels={channels} cannot be cut out of pretrained weights; use at most"
            f" {FC6_KERNEL} and {FC_CHANNELS}, or pretrained=false"
        )
