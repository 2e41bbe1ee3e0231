"""OCR, object-contextual representations (Yuan, Chen, Wang 2020, arXiv 1909.11065), on HRNet or any other trunk.

Every pixel attends to the K object regions that a coarse prediction finds, not to every other pixel: memory and cost
are linear in the number of pixels N = H*W. Letters: C channels of the pixels, K classes and regions.

The layers are those of the authors' release, which NVIDIA's scale attention (arXiv 2005.10821) and mmsegmentation
follow. Where they differ: convolution biases before a norm (``bias``), dropout, and the head, which is one 1x1
convolution in all releases and 3x3, 3x3, 1x1 in the text of 2005.10821 (``head_channels``). mmsegmentation's own
downsampling of queries loses the context; here the context is resized back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count, Positive, Share
from .aspp import ASPP
from .checks import check_choice, check_dropout
from .layers import ConvNormAct, FCNHead
from .net import Backbone, Net

__all__ = ["OCRNet", "ObjectContext", "gather_regions"]


def gather_regions(pixels: Tensor, region_logits: Tensor, *, scale: float = 1.0) -> Tensor:
    """Object region representations (section 3.2): the mean pixel of each region, weighted over all positions.

    Args:
        pixels: (B,C,h,w).
        region_logits: (B,K,h,w), the coarse prediction.
        scale: of the logits before the softmax, which runs over the N positions of a class, not over the classes.

    Returns:
        (B,C,K).
    """
    weights = (scale * region_logits).flatten(2).softmax(dim=2)  # (B,K,N)
    return pixels.flatten(2) @ weights.transpose(1, 2)  # (B,C,N) x (B,N,K)


class ObjectContext(nn.Module):
    """Object-contextual representations of the pixels (section 3.2): (B,C,h,w), (B,K,h,w) -> (B,C,h,w).

    Args:
        channels: C.
        key_channels: of queries, keys and values.
        extra_channels: of a map that is concatenated before the last convolution, besides context and pixels.
        dropout: share of the result's channels that is zeroed in training.
        scale: see ``gather_regions``.
        query_stride: queries are max-pooled by it, and their context is resized back.
    """

    def __init__(
        self, channels: int, key_channels: int, *, extra_channels: int, dropout: float, scale: float, query_stride: int
    ) -> None:
        super().__init__()
        self.scale, self.query_stride = scale, query_stride
        self.query = _projection(channels, key_channels)
        self.key = _projection(channels, key_channels)
        self.value = ConvNormAct(channels, key_channels, kernel_size=1)
        self.context = ConvNormAct(key_channels, channels, kernel_size=1)
        self.merge = ConvNormAct(2 * channels + extra_channels, channels, kernel_size=1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, pixels: Tensor, region_logits: Tensor, extra: Sequence[Tensor], *, align_corners: bool) -> Tensor:
        """``extra``: maps of the pixels' size, ``extra_channels`` together; ``align_corners``: of the resize."""
        regions = gather_regions(pixels, region_logits, scale=self.scale)[..., None]  # (B,C,K,1)
        key, value = (project(regions).flatten(2).mT[:, None] for project in (self.key, self.value))  # (B,1,K,D)
        query = self.query(self._pooled(pixels) if self.query_stride > 1 else pixels)  # (B,D,h',w')
        mixed = F.scaled_dot_product_attention(query.flatten(2).mT[:, None], key, value)  # (B,1,n,D)
        context = self.context(mixed[:, 0].mT.unflatten(2, query.shape[-2:]))
        if self.query_stride > 1:
            context = resize(context, pixels.shape[-2:], align_corners=align_corners)
        return self.dropout(self.merge(torch.cat([context, pixels, *extra], dim=1)))

    def _pooled(self, pixels: Tensor) -> Tensor:
        """Sizes are rounded up; pixels are rectified, so that zeros at the border change no maximum."""
        border = self.query_stride - 1
        return F.max_pool2d(F.pad(pixels, (0, border, 0, border)), self.query_stride)


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    first = ConvNormAct(in_channels, out_channels, kernel_size=1)
    return nn.Sequential(first, ConvNormAct(out_channels, out_channels, kernel_size=1))


class OCRNet(Net):
    """A trunk, a coarse prediction of the object regions, object context, a classifier.

    ``decode`` gives ``logits`` at the finest feature's size (with ``concat_features``) or the last one's, in training
    ``aux_regions``, the coarse prediction, and ``features``, the OCR output with ``mid_channels`` channels, which the
    head reads.

    Args:
        num_classes: K, see ``Net``.
        backbone: gives feature maps, see ``src.models.backbones``.
        concat_features: pixels and regions both read all features, resized to the finest and concatenated (HRNet).
            Else the regions read the last feature but one and the pixels the last (ResNet-101).
        in_channels: channels of the image.
        mid_channels: C, of the pixels.
        key_channels: of queries, keys and values.
        head_channels: widths of the head's 3x3 convolutions; none is the releases' bare classifier.
        region_channels: width of the region head's block; ``None`` keeps that of what it reads.
        region_kernel_size: of that block: 1 with HRNet, 3 with ResNet.
        bias: of the pixels' 3x3 convolution and the region head's block, both followed by a norm.
        dropout: share of the OCR output's channels that is zeroed in training.
        region_scale, query_stride: see ``gather_regions`` and ``ObjectContext``.
        aspp_rates: atrous rates of an ASPP branch beside pixels and context (``OCR_ASPP`` of NVIDIA's release; there
            without a projection to ``key_channels``); ``None`` leaves it out.
        align_corners: of every resize.

    Raises:
        UserError: for a count below 1, a dropout outside [0, 1), or a ``region_scale`` of 0 or less.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        concat_features: bool = True,
        in_channels: Channels = 3,
        mid_channels: Channels = 512,
        key_channels: Channels = 256,
        head_channels: Sequence[Channels] = (),
        region_channels: Channels | None = None,
        region_kernel_size: Count = 1,
        bias: bool = True,
        dropout: Share = 0.05,
        region_scale: Positive = 1.0,
        query_stride: Count = 1,
        aspp_rates: Sequence[Count] | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        check_choice("region_kernel_size", str(region_kernel_size), ("1", "3"))
        check_dropout("dropout", dropout)
        self.backbone, self.concat_features = backbone, concat_features
        self.reads_all = concat_features
        channels = backbone.channels
        of_regions, of_pixels = (sum(channels), sum(channels)) if concat_features else channels[-2:]
        width = of_regions if region_channels is None else region_channels
        self.region_head = FCNHead(of_regions, [width], num_classes, kernel_size=region_kernel_size, bias=bias)
        self.pixels = ConvNormAct(of_pixels, mid_channels, bias=bias)
        self.aspp = (
            None if aspp_rates is None else ASPP(of_pixels, key_channels, rates=aspp_rates, align_corners=align_corners)
        )
        self.context = ObjectContext(
            mid_channels,
            key_channels,
            extra_channels=0 if self.aspp is None else key_channels,
            dropout=dropout,
            scale=region_scale,
            query_stride=query_stride,
        )
        self.head = FCNHead(mid_channels, head_channels, num_classes)
        self.feature_channels = mid_channels

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """``logits`` and ``aux_regions`` (B,K,h,w), ``features`` (B,mid_channels,h,w); see ``Net.decode``."""
        self.check(image)
        of_regions, of_pixels = self._features(image)
        regions, pixels = self.region_head(of_regions), self.pixels(of_pixels)
        extra = [] if self.aspp is None else [self.aspp(of_pixels)]
        placed = resize(regions, pixels.shape[-2:], align_corners=self.align_corners)
        features = self.context(pixels, placed, extra, align_corners=self.align_corners)
        outputs = {"features": features, "logits": self.head(features)}
        return outputs | {"aux_regions": regions} if self.training else outputs

    def _features(self, image: Tensor) -> Sequence[Tensor]:
        """What the region head and the pixels read."""
        features = self.backbone(image)
        if not self.concat_features:
            return features[-2:]
        size = features[0].shape[-2:]
        together = torch.cat([resize(x, size, align_corners=self.align_corners) for x in features], dim=1)
        return together, together
