"""DeepLab v3 (Chen et al. 2017, arXiv 1706.05587): atrous convolutions in cascade, or in parallel as ASPP.

The paper's blocks: block1 to block4 are the trunk's stages, block5 to block7 are copies of block4 (section 3.1). The
paper strides in the last unit of a block; trunks do so in the first unit of the next one, the cascade between blocks.
In public code alone, and off by default: the auxiliary head, convolutions before the classifier, dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from torch import Tensor, nn

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import Channels, Count, Share, Size
from .aspp import ASPP, rates_at, window_at
from .backbones import ResNet
from .layers import FCNHead, auxiliary_head, init_kaiming, recompute
from .net import Backbone, Net

__all__ = ["DeepLabV3"]

BLOCK4_STRIDE = 32  # of the image, where nothing is dilated


class DeepLabV3(Net):
    """DeepLab v3: trunk, block5 to block7 in cascade or ASPP or both, classifier.

    ``decode`` gives ``logits`` at the output stride and, in training, ``aux_stage4`` at the size of block3.

    Args:
        num_classes: K, see ``Net``.
        backbone: a trunk at output stride 8, 16 or 32; its options hold the multi-grid.
        in_channels: channels of the image.
        cascade_depth: 4 is the trunk alone; 5, 6 or 7 add block5 up to that block, for ResNets. Their rates double
            from block to block, and the multi-grid multiplies them.
        output_stride: of the last block, if the cascade continues to stride: 64, 128 or 256 (Table 1), behind a
            backbone at 32. ``None`` is the backbone's.
        aspp_channels: width of ASPP; ``None`` is no ASPP.
        aspp_rates: see ``rates_at``.
        image_pooling: see ``ASPP``.
        image_pooling_size: height and width of the average in pixels of the image, see ``ImagePooling``; ``None``
            averages the whole map.
        projection_kernel, aspp_dropout: see ``ASPP``.
        head_channels: widths of 3x3 convolutions before the classifier: one of 256 in torchvision and VainF.
        dropout: share of channels that is zeroed before the classifier in training (mmsegmentation).
        aux_channels: width of the 3x3 convolution of a second head, with dropout 0.1, on the backbone's last feature
            but one (block3 of a ResNet); ``None`` is no such head.
        align_corners: of every resize.

    Raises:
        UserError: for a value outside these limits, or a trunk that cannot be continued.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        in_channels: Channels = 3,
        cascade_depth: Count = 4,
        output_stride: Count | None = None,
        aspp_channels: Channels | None = 256,
        aspp_rates: Sequence[Count] | None = None,
        image_pooling: Literal["last", "first"] | None = "last",
        image_pooling_size: Size | None = None,
        projection_kernel: Count = 1,
        aspp_dropout: Share = 0.0,
        head_channels: Sequence[Channels] = (),
        dropout: Share = 0.0,
        aux_channels: Channels | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        self.backbone = backbone
        self.output_stride = output_stride or backbone.strides[-1]
        self.cascade = _cascade(backbone, depth=cascade_depth, output_stride=self.output_stride)
        self.doublings = (self.output_stride // backbone.strides[-1]).bit_length() - 1  # of the stride, in the cascade
        channels, self.aspp = backbone.channels[-1], None
        if aspp_channels is not None:
            self.aspp = ASPP(
                channels,
                aspp_channels,
                rates=rates_at(self.output_stride, aspp_rates),
                image_pooling=image_pooling,
                pooling_window=window_at(self.output_stride, image_pooling_size),
                projection_kernel=projection_kernel,
                dropout=aspp_dropout,
                align_corners=align_corners,
            )
            init_kaiming(self.aspp)
            channels = aspp_channels
        self.head = FCNHead(channels, head_channels, num_classes, dropout=dropout)
        self.feature_channels = self.head.classifier.in_channels
        self.aux_head = auxiliary_head(backbone, aux_channels, num_classes)
        init_kaiming(self.head)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Logits at the output stride; in training at least 2 images where ASPP pools the whole map."""
        self.check(image)
        features = self.backbone(image)
        x = features[-1]
        for number, block in enumerate(self.cascade):
            x = x[..., ::2, ::2] if number < self.doublings else x
            for unit in cast("nn.Sequential", block):
                x = recompute(unit, x) if self.training and self.backbone.checkpointing else unit(x)
        x = self.head.convs(x if self.aspp is None else self.aspp(x))
        outputs = {"features": x, "logits": self.head.classify(x)}
        if self.training and self.aux_head is not None:
            outputs["aux_stage4"] = self.aux_head(features[-2])
        return outputs


def _cascade(backbone: Backbone, *, depth: int, output_stride: int) -> nn.ModuleList:
    """block5 to block<depth>, each a sequence of units."""
    if depth not in (4, 5, 6, 7):
        raise UserError(f"cascade_depth is {depth}; use 4 for the trunk alone, or 5, 6, 7")
    undilated = [BLOCK4_STRIDE << n for n in range(1, depth - 3)]
    if output_stride not in (backbone.strides[-1], *(undilated if backbone.strides[-1] == BLOCK4_STRIDE else ())):
        raise UserError(
            f"output_stride is {output_stride}, but the backbone has {backbone.strides[-1]} and the cascade ends at"
            f" block{depth}; use null, or a backbone at 32 and a cascade that reaches that stride"
        )
    if depth == 4:
        return nn.ModuleList()
    if not isinstance(backbone, ResNet):
        raise UserError(f"cascade_depth={depth} copies residual blocks; choose a ResNet backbone or cascade_depth=4")
    return nn.ModuleList(backbone.another_stage(max(1, stride // output_stride)) for stride in undilated)
