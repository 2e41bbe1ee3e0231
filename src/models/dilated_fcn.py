"""Fully convolutional head on a dilated ResNet or on HRNet V2 (Wang et al. 2020, arXiv 1908.07919).

No paper defines the ResNet net: it is FCN (Long et al. 2015) on a trunk dilated to 1/8 of the image, with the auxiliary
head of PSPNet, as torchvision and mmsegmentation have it and as the baseline of most later papers. On an HRNet, whose
branches are all kept, the head reads their concatenation at 1/4 of the image (section 3, HRNetV2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count, Share
from .checks import check_choice
from .layers import ConvNormAct, FCNHead, auxiliary_head, init_kaiming
from .net import Backbone, Net

__all__ = ["DilatedFCN"]


class DilatedFCN(Net):
    """Trunk, convolutions, classifier.

    ``decode`` gives ``logits`` at the size of the feature the head reads and, in training, ``aux_stage4`` at that of
    the deepest feature but one.

    Args:
        backbone: see ``src.models.backbones``.
        num_classes: K, see ``Net``.
        in_channels: channels of the image.
        levels: the features that the head reads: the ``"last"``, or ``"all"``, resized to the finest and concatenated
            (HRNet).
        channels: width of each of the head's convolutions; empty leaves the classifier alone.
        kernel_size: 1 or 3, of the head's convolutions.
        bias: of the head's convolutions, which a norm follows (HRNet's first project has it).
        concat_input: one more convolution reads the input of the head beside the result of the others
            (mmsegmentation).
        dropout: share of head channels dropped in training.
        aux_channels: width of the 3x3 convolution of the auxiliary head on the deepest feature but one; ``None`` is no
            head.
        align_corners: of all resizes here; HRNets have the same option.

    Raises:
        UserError: for a value outside these limits.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: Count,
        in_channels: Channels = 3,
        levels: Literal["last", "all"] = "last",
        channels: Sequence[Channels] = (512,),
        kernel_size: Count = 3,
        bias: bool = False,
        concat_input: bool = False,
        dropout: Share = 0.1,
        aux_channels: Channels | None = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        check_choice("kernel_size", str(kernel_size), ("1", "3"))
        if concat_input and not channels:
            raise UserError("concat_input needs convolutions to put the input beside; give channels, such as [512]")
        self.backbone, self.levels, self.reads_all = backbone, levels, levels == "all"
        width = sum(backbone.channels) if levels == "all" else backbone.channels[-1]
        self.feature_channels = channels[-1] if channels else width
        self.head = FCNHead(width, channels, num_classes, kernel_size=kernel_size, bias=bias, dropout=dropout)
        self.merge = None
        if concat_input:
            self.merge = ConvNormAct(width + channels[-1], channels[-1], kernel_size=kernel_size, bias=bias)
            init_kaiming(self.merge)
        init_kaiming(self.head)
        self.aux_head = auxiliary_head(backbone, aux_channels, num_classes)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        self.check(image)
        maps = self.backbone(image)
        x = maps[-1]
        if self.levels == "all":
            size = maps[0].shape[-2:]
            x = torch.cat([resize(each, size, align_corners=self.align_corners) for each in maps], dim=1)
        features = self.head.convs(x)
        if self.merge is not None:
            features = self.merge(torch.cat([x, features], dim=1))
        outputs = {"features": features, "logits": self.head.classify(features)}
        if self.training and self.aux_head is not None:
            outputs["aux_stage4"] = self.aux_head(maps[-2])
        return outputs
