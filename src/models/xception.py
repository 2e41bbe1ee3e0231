"""Xception (Chollet 2017, arXiv 1610.02357) as a trunk for segmentation: rates in place of its last strides.

Layers and ImageNet weights are timm's ``legacy_xception``. DeepLab v3+ modified the net (Aligned Xception, arXiv
1802.02611, Fig. 4); that one is timm's ``xception65``. Here blocks of stride 2 end in a max pooling, and the first two
convolutions have no padding, so maps are a little smaller than the image over their strides.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .layers import dilate
from .net import Backbone

__all__ = ["Xception"]


class Xception(Backbone):
    """timm's Xception: image -> the maps of its blocks 1, 2 and 11, and of the exit flow.

    Args:
        trunk: timm's ``Xception``; its classifier is dropped.
        output_stride: 8, 16 or 32. A block that would stride further has no pooling; its convolutions and those behind
            it have twice the rate.
        linear_features: maps are taken before the ReLU that follows, that of the exit flow before its batch norm too,
            which the net then lacks (VainF).
        exit_padding: of the last two 3x3 convolutions. ``None`` is their rate, which keeps the size; 1 at a rate of 2
            takes two rows and columns each (VainF), so that images need ``min_size`` pixels a side.
    """

    trunk: Any

    def __init__(
        self,
        trunk: Any,
        *,
        output_stride: int = 32,
        linear_features: bool = False,
        exit_padding: int | None = None,
    ) -> None:
        super().__init__()
        trunk.reset_classifier(0)
        self.trunk, self.linear_features = trunk, linear_features
        self.channels = [128, 256, 728, 2048]
        self.strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
        stride, rate = 2, 1
        for block in self.blocks():
            if isinstance(block.rep[-1], nn.MaxPool2d) and stride < output_stride:
                stride *= 2
            elif isinstance(block.rep[-1], nn.MaxPool2d):
                rate *= 2
                block.rep, block.skip.stride = block.rep[:-1], (1, 1)
            dilate(block, rate)
        for conv in (trunk.conv3, trunk.conv4):
            dilate(conv, rate, padding=exit_padding)
        lost = 0 if exit_padding is None else 4 * (rate - exit_padding)  # rows of the last map
        self.min_size = 7 + lost * output_stride  # 7: what the stem makes one pixel of
        if linear_features:
            trunk.bn4, trunk.act4 = nn.Identity(), nn.Identity()

    def blocks(self) -> list[Any]:
        """The 12 residual blocks of the entry, middle and exit flow."""
        return [getattr(self.trunk, f"block{i}") for i in range(1, 13)]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> maps with 128, 256, 728 and 2048 channels at ``strides``."""
        trunk, features = self.trunk, []
        x = trunk.act1(trunk.bn1(trunk.conv1(image)))
        x = trunk.act2(trunk.bn2(trunk.conv2(x)))
        for i, block in enumerate(self.blocks(), start=1):
            x = block(x)
            if i in (1, 2, 11):
                features.append(x if self.linear_features else F.relu(x))
        x = trunk.act3(trunk.bn3(trunk.conv3(x)))
        return [*features, trunk.act4(trunk.bn4(trunk.conv4(x)))]
