"""DeepLab v3+ (Chen et al. 2018, arXiv 1802.02611): DeepLab v3 as encoder, a decoder for object boundaries.

The low-level feature of a ResNet is its whole first stage (public PyTorch code), not the last convolution before a sum
(released TensorFlow code); costs are equal. Xception trunks are timm's, which take the released weights: there, as in
the released code, the ReLU between depthwise and pointwise convolution that the text describes is in the exit flow
only. Not in the paper: the auxiliary head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count, Share, Size, Whole
from .aspp import ASPP, rates_at, window_at
from .checks import check_choice
from .layers import ConvNormAct, FCNHead, auxiliary_head, init_kaiming
from .net import Backbone, Net

__all__ = ["AtrousSeparableConv", "Decoder", "DeepLabV3Plus"]


class AtrousSeparableConv(nn.Sequential):
    """Atrous separable convolution (section 3.1): (B,C,H,W) -> (B,out_channels,H,W).

    A depthwise convolution with a rate, then a 1x1 convolution, each with batch norm and ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels, in_channels, kernel_size=kernel_size, dilation=dilation, groups=in_channels
        )
        self.pointwise = ConvNormAct(in_channels, out_channels, kernel_size=1)


class Decoder(nn.Module):
    """One level of the decoder (Fig. 2): low-level features join the upsampled ones, and convolutions refine both.

    Args:
        in_channels: C of the coarse map.
        low_level_channels: L of the low-level map.
        projected_channels: P, to which a 1x1 convolution reduces L, so that they do not outweigh the coarse features.
        channels: width of each convolution after the concatenation of C + P.
        kernel_size: of these.
        conv: makes one from input channels, output channels and ``kernel_size``.
        low_level_first: in the concatenation (VainF); else the coarse map comes first.
        align_corners: of the upsampling.
    """

    def __init__(
        self,
        in_channels: int,
        low_level_channels: int,
        *,
        projected_channels: int,
        channels: Sequence[int],
        kernel_size: int = 3,
        conv: Callable[..., nn.Module] = ConvNormAct,
        low_level_first: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.low_level_first, self.align_corners = low_level_first, align_corners
        self.project = ConvNormAct(low_level_channels, projected_channels, kernel_size=1)
        widths = [in_channels + projected_channels, *channels]
        self.refine = nn.Sequential(
            *(conv(before, after, kernel_size=kernel_size) for before, after in pairwise(widths))
        )

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        """(B,C,h,w) and (B,L,H,W) -> (B,channels[-1],H,W)."""
        low_level = self.project(low_level)
        x = resize(x, low_level.shape[-2:], align_corners=self.align_corners)
        return self.refine(torch.cat([low_level, x] if self.low_level_first else [x, low_level], dim=1))


class DeepLabV3Plus(Net):
    """DeepLab v3+: trunk, ASPP, decoder, classifier.

    ``decode`` gives ``logits`` at the size of the last low-level feature (1/4 of the image) and, in training,
    ``aux_stage4`` at the size of the backbone's last feature but one.

    Args:
        num_classes: K, see ``Net``.
        backbone: a trunk at output stride 8, 16 or 32: ResNet, ``xception65``, ``xception71``, ``mobilenetv2_100``, or
            any other with a feature at stride 4.
        in_channels: channels of the image.
        aspp_channels, aspp_rates, image_pooling, image_pooling_size: see ``DeepLabV3``.
        projection_kernel, aspp_dropout: see ``DeepLabV3``.
        separable_aspp: atrous separable convolutions in ASPP.
        low_levels: which of the backbone's features the decoder joins, by index, coarse to fine: ``[0]`` is Conv2 at
            stride 4, ``[1, 0]`` is Conv3, then Conv2 (Table 2), each with convolutions of its own.
        low_level_channels: to which they are reduced (Table 1).
        decoder_channels: width of each convolution of a level; one to three in Table 2.
        decoder_kernel_size: of these, 3 or 1.
        separable_decoder: separable convolutions there.
        low_level_first: see ``Decoder``.
        full_size: ``decode`` gives the logits at the image's size, where scales are fused in kazuto1011's code.
        dropout, aux_channels, align_corners: see ``DeepLabV3``.

    Raises:
        UserError: for a value outside these limits.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        in_channels: Channels = 3,
        aspp_channels: Channels = 256,
        aspp_rates: Sequence[Count] | None = None,
        image_pooling: Literal["last", "first"] | None = "last",
        image_pooling_size: Size | None = None,
        projection_kernel: Count = 1,
        aspp_dropout: Share = 0.0,
        separable_aspp: bool = False,
        low_levels: Sequence[Whole] = (0,),
        low_level_channels: Channels = 48,
        decoder_channels: Sequence[Channels] = (256, 256),
        decoder_kernel_size: Count = 3,
        separable_decoder: bool = False,
        low_level_first: bool = False,
        full_size: bool = False,
        dropout: Share = 0.0,
        aux_channels: Channels | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        _check_decoder(low_levels, decoder_channels, decoder_kernel_size, len(backbone.channels))
        self.backbone, self.low_levels, self.full_size = backbone, list(low_levels), full_size
        self.output_stride = backbone.strides[-1]
        self.aspp = ASPP(
            backbone.channels[-1],
            aspp_channels,
            rates=rates_at(self.output_stride, aspp_rates),
            conv=AtrousSeparableConv if separable_aspp else ConvNormAct,
            image_pooling=image_pooling,
            pooling_window=window_at(self.output_stride, image_pooling_size),
            projection_kernel=projection_kernel,
            dropout=aspp_dropout,
            align_corners=align_corners,
        )
        self.feature_channels = decoder_channels[-1]
        level_decoder = partial(
            Decoder,
            projected_channels=low_level_channels,
            channels=decoder_channels,
            kernel_size=decoder_kernel_size,
            conv=AtrousSeparableConv if separable_decoder else ConvNormAct,
            low_level_first=low_level_first,
            align_corners=align_corners,
        )
        coarse = [aspp_channels] + [self.feature_channels] * (len(low_levels) - 1)
        fine = [backbone.channels[level] for level in low_levels]
        self.decoder = nn.ModuleList(level_decoder(*widths) for widths in zip(coarse, fine, strict=True))
        self.head = FCNHead(self.feature_channels, [], num_classes, dropout=dropout)
        self.aux_head = auxiliary_head(backbone, aux_channels, num_classes)
        for part in (self.aspp, self.decoder, self.head):
            init_kaiming(part)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Logits at stride 4; in training at least 2 images where ASPP pools the whole map."""
        self.check(image)
        features = self.backbone(image)
        x = self.aspp(features[-1])
        for level, decoder in zip(self.low_levels, self.decoder, strict=True):
            x = decoder(x, features[level])
        logits = self.head.classify(x)
        if self.full_size:
            logits = resize(logits, image.shape[-2:], align_corners=self.align_corners)
        outputs = {"features": x, "logits": logits}
        if self.training and self.aux_head is not None:
            outputs["aux_stage4"] = self.aux_head(features[-2])
        return outputs


def _check_decoder(low_levels: Sequence[int], channels: Sequence[int], kernel_size: int, features: int) -> None:
    last = features - 2  # the encoder reads the last feature
    if not low_levels or any(level not in range(last + 1) for level in low_levels):
        raise UserError(f"low_levels is {list(low_levels)}; use indices of the backbone's features from 0 to {last}")
    if list(low_levels) != sorted(set(low_levels), reverse=True):
        raise UserError(f"low_levels is {list(low_levels)}; name each feature once, coarse ones (high indices) first")
    if not channels:
        raise UserError("decoder_channels is empty; give the width of each convolution, such as [256, 256]")
    check_choice("decoder_kernel_size", str(kernel_size), ("1", "3"))
