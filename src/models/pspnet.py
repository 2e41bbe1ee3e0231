"""PSPNet (Zhao et al., CVPR 2017, arXiv 1612.01105): averages over the parts of a pyramid give every pixel context.

Deviation: the averages are matrix products (``src.models.adaptive_pooling``), the same numbers within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count, Share
from .adaptive_pooling import adaptive_avg_pool
from .checks import check_pooled
from .layers import ConvNormAct, FCNHead, auxiliary_head, init_kaiming
from .net import Backbone, Net

__all__ = ["PSPNet", "PyramidPooling"]


class PyramidPooling(nn.Module):
    """The map beside its averages at several scales (section 3.2): (B,C,H,W) -> (B,out_channels,H,W).

    Args:
        in_channels: C.
        channels: width to which each level is reduced; ``out_channels`` is C plus this for each level.
        pool_sizes: b of each level, which averages over b x b parts of the map.
        align_corners: of the resize back to the map's size.

    Raises:
        UserError: for no or wrong pool sizes; when called, for one that exceeds the map, and in training on one image
            with pool size 1, which gives batch norm a single value per channel.
    """

    def __init__(self, in_channels: int, channels: int, *, pool_sizes: Sequence[int], align_corners: bool) -> None:
        super().__init__()
        if not pool_sizes:
            raise UserError("pool_sizes is empty; give at least one, such as [1,2,3,6]")
        self.pool_sizes, self.align_corners = list(pool_sizes), align_corners
        self.out_channels = in_channels + len(self.pool_sizes) * channels
        self.levels = nn.ModuleList(ConvNormAct(in_channels, channels, kernel_size=1) for _ in self.pool_sizes)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        self._check_size(x)
        maps = [x]
        for bins, conv in zip(self.pool_sizes, cast("Sequence[ConvNormAct]", self.levels), strict=True):
            if bins == 1:
                check_pooled(conv.norm, x)
            maps.append(resize(conv(adaptive_avg_pool(x, bins)), size, align_corners=self.align_corners))
        return torch.cat(maps, dim=1)

    def _check_size(self, x: Tensor) -> None:
        # an exported graph must not branch on symbolic sizes
        if not torch.compiler.is_exporting() and max(self.pool_sizes) > min(x.shape[-2:]):
            raise UserError(
                f"pool size {max(self.pool_sizes)} exceeds the feature map of {x.shape[2]}x{x.shape[3]}; enlarge the"
                " image or leave large sizes out of pool_sizes"
            )


class PSPNet(Net):
    """Trunk, pyramid pooling, 3x3 convolution, classifier.

    ``decode`` gives ``logits`` at the output stride and, in training, ``aux_stage4`` at the size of the deepest feature
    but one.

    Args:
        backbone: see ``src.models.backbones``.
        num_classes: K, at least 2.
        in_channels: channels of the image.
        pool_sizes: see ``PyramidPooling``.
        pool_channels: width of each level, in the paper the trunk's over the number of levels.
        channels: width of the 3x3 convolution behind the pyramid.
        dropout: share of head channels dropped in training.
        aux_channels: width of the 3x3 convolution of the auxiliary head on the deepest feature but one (section 3.3);
            ``None`` is no head.
        align_corners: of all resizes.

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
        pool_sizes: Sequence[Count] = (1, 2, 3, 6),
        pool_channels: Channels = 512,
        channels: Channels = 512,
        dropout: Share = 0.1,
        aux_channels: Channels | None = 256,
        align_corners: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        self.backbone, self.feature_channels = backbone, channels
        self.pyramid = PyramidPooling(
            backbone.channels[-1], pool_channels, pool_sizes=pool_sizes, align_corners=align_corners
        )
        self.head = FCNHead(self.pyramid.out_channels, [channels], num_classes, dropout=dropout)
        init_kaiming(self.pyramid)
        init_kaiming(self.head)
        self.aux_head = auxiliary_head(backbone, aux_channels, num_classes)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """See ``Net.decode``; with pool size 1, training takes two images or more."""
        self.check(image)
        maps = self.backbone(image)
        features = self.head.convs(self.pyramid(maps[-1]))
        outputs = {"features": features, "logits": self.head.classify(features)}
        if self.training and self.aux_head is not None:
            outputs["aux_stage4"] = self.aux_head(maps[-2])
        return outputs
