"""DeepLab v1 (Chen et al., arXiv 1412.7062) and v2 (arXiv 1606.00915): atrous convolution at 1/8 of the image.

Both classify the last feature of a dilated trunk and upsample the scores bilinearly; v2 does it at several atrous rates
at once and sums the scores (atrous spatial pyramid pooling). In training the loss meets them at 1/8 of the image, where
the label is reduced (``reduced_labels``). Multi-scale inputs are a wrapper, ``src.models.multi_scale_pooling``; the CRF
is no part of the net. With a ResNet the conventions of DeepLab v2 (Caffe's) are options of its backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count
from .checks import check_rates
from .layers import init_kaiming
from .net import Backbone, Net
from .vgg import VGG16, check_one_fc

__all__ = ["DeepLabV1", "DeepLabV2"]


class DeepLabV1(Net):
    """DeepLab v1: a 1x1 classifier on the last feature; the variants (LargeFOV and others) are options of ``VGG16``.

    ``decode`` gives ``logits`` at the stride of the backbone.

    Args:
        num_classes: K, see ``Net``.
        backbone: a dilated ``VGG16`` in the paper.
        msc_channels: width of the MSc branches (128 in the paper): on the image and on each feature but the last, a
            3x3 and a 1x1 convolution, whose results join what is classified (section 4.2). ``None`` is no branches.
        in_channels: channels of the image.
        align_corners: of all resizes.
        reduced_labels: see ``Net``.

    Raises:
        UserError: for values outside these limits.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        msc_channels: Channels | None = None,
        in_channels: Channels = 3,
        align_corners: bool = False,
        reduced_labels: bool = True,
    ) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, align_corners=align_corners, reduced_labels=reduced_labels
        )
        check_one_fc(backbone)
        self.backbone = backbone
        self.feature_channels = backbone.channels[-1]
        self.branches = None
        if msc_channels is not None:
            widths, strides = (in_channels, *backbone.channels[:-1]), (1, *backbone.strides[:-1])
            steps = [backbone.strides[-1] // stride for stride in strides]
            branches = (_branch(width, msc_channels, step) for width, step in zip(widths, steps, strict=True))
            self.branches = nn.ModuleList(branches)
            self.feature_channels += msc_channels * len(self.branches)
        self.classifier = _classifier(self.feature_channels, num_classes)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        self.check(image)
        *fine, features = self.backbone(image)
        if self.branches is not None:
            maps = (branch(x) for branch, x in zip(self.branches, (image, *fine), strict=True))
            size = features.shape[-2:]
            maps = [resize(x, size, align_corners=self.align_corners) for x in maps]
            features = torch.cat([features, *maps], dim=1)
        return {"features": features, "logits": self.classifier(features)}


class DeepLabV2(Net):
    """DeepLab v2: classifiers at several rates, whose scores are summed.

    ``decode`` gives ``logits`` at the stride of the backbone. One rate of 12 is LargeFOV, (2, 4, 8, 12) is ASPP-S and
    (6, 12, 18, 24) ASPP-L.

    Args:
        num_classes: K, see ``Net``.
        backbone: a dilated ResNet, or a dilated ``VGG16``.
        rates: of the 3x3 classifiers on the last feature (ResNet); ``None``: a 1x1 classifier on each fc7 of ``VGG16``,
            where the rates are those of fc6.
        in_channels: channels of the image.
        align_corners: of all resizes.
        reduced_labels: see ``Net``.

    Raises:
        UserError: for values outside these limits, and for rates with ``VGG16`` or none with another backbone.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        rates: Sequence[Count] | None = (6, 12, 18, 24),
        in_channels: Channels = 3,
        align_corners: bool = False,
        reduced_labels: bool = True,
    ) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, align_corners=align_corners, reduced_labels=reduced_labels
        )
        if isinstance(backbone, VGG16) != (rates is None):
            raise UserError(
                f"rates is {rates}; set it to null for VGG16, whose rates are backbone.fc6_rates, and to a list such as"
                " [6, 12, 18, 24] for other backbones"
            )
        if isinstance(backbone, VGG16):
            classifiers = [_classifier(backbone.channels[-1], num_classes) for _ in backbone.fc]
        else:
            assert rates is not None  # else refused above
            check_rates("rates", rates)
            classifiers = [_classifier(backbone.channels[-1], num_classes, rate) for rate in rates]
        self.backbone, self.classifiers = backbone, nn.ModuleList(classifiers)
        self.read = len(classifiers) if rates is None else 1  # features of the backbone that are classified
        self.feature_channels = self.read * backbone.channels[-1]

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Summed scores; ``features`` are the last feature, or all fc7 maps of ``VGG16`` one after another."""
        self.check(image)
        maps = self.backbone(image)[-self.read :]
        read = maps if self.read > 1 else maps * len(self.classifiers)
        logits = reduce(torch.add, [classify(x) for classify, x in zip(self.classifiers, read, strict=True)])
        return {"features": torch.cat(maps, dim=1) if len(maps) > 1 else maps[0], "logits": logits}


def _branch(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """MSc branch, a perceptron of two layers: (B,C,H,W) -> (B,channels,H/stride,W/stride)."""
    layers = [nn.Conv2d(in_channels, channels, 3, stride, padding=1), nn.ReLU(inplace=True)]
    branch = nn.Sequential(*layers, nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))
    init_kaiming(branch)
    return branch


def _classifier(in_channels: int, num_classes: Count, rate: int | None = None) -> nn.Conv2d:
    """1x1, or 3x3 at a rate, with a bias; small random weights at first."""
    conv = nn.Conv2d(in_channels, num_classes, 1)
    if rate is not None:
        conv = nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate)
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
