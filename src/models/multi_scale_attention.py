"""Attention over image scales, around any net: hierarchical (Tao, Sapra, Catanzaro 2020, arXiv 2005.10821), and
explicit (Chen et al. 2016, arXiv 1511.03339), to which that paper compares.

The paper's attention head and the released one have the same layers. Deviations from the release
(NVIDIA/semantic-segmentation): the attention that is not used is that of the largest scale, not of 2.0 whatever the
list; the zero start concerns the last convolution alone, since a head of nothing but zeros gets no gradient; in the
explicit net the weights are a softmax over the scales, as in Chen et al., and its 1x1 convolution is not padded.

Letters: B images, K classes, S scales, H x W pixels of the image at 1.0x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..ops.scale_fusion import combine, fuse_hierarchical, hierarchical_weights, weighted_sum
from ..schema.faults import checked
from ..schema.types import Channels, Factors, Positive, Share
from .checks import check_dropout
from .layers import ConvNormAct
from .multi_scale import MultiScale, own_predictions, rescale, resized
from .net import Net

__all__ = ["AttentionHead", "ExplicitAttention", "HierarchicalAttention"]


class AttentionHead(nn.Module):
    """3x3 convolutions and a 1x1 convolution to the attention: (B,in_channels,h,w) -> (B,maps,h,w).

    Args:
        in_channels: of the features.
        channels: width of each 3x3 convolution.
        maps: of the attention.
        norm: batch norm after each 3x3 convolution, and no biases at all; else biases and no norm.
        dropout: share of single values that is zeroed before the last convolution in training.
        zero_init: the last convolution starts at zero.

    Raises:
        UserError: for a width below 1 or another dropout.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], maps: int, *, norm: bool, dropout: float, zero_init: bool
    ) -> None:
        super().__init__()
        check_dropout("attention_dropout", dropout)
        self.convs = nn.Sequential()
        for width in channels:
            plain = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(inplace=True))
            self.convs.append(ConvNormAct(in_channels, width) if norm else plain)
            in_channels = width
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(in_channels, maps, 1, bias=not norm)
        if zero_init:
            nn.init.zeros_(self.last.weight)

    def forward(self, features: Tensor) -> Tensor:
        return self.last(self.dropout(self.convs(features)))


class HierarchicalAttention(MultiScale):
    """A net at two scales in training, and at any scales in evaluation, fused by attention between neighbours.

    One map between 0 and 1, shared by all classes, says at each pixel of a scale how far it is to be trusted against
    everything finer (section 3); the rules are in ``src.ops.scale_fusion.fuse_hierarchical``. Auxiliary logits are
    fused with the same attention. The maps of each scale are first resized to its image, so those of ``decode`` have
    the image's size.

    In training the outputs are ``logits``, the net's ``aux_<name>`` and, with ``supervise``, the prediction of each
    scale alone: ``aux_scale_050`` and ``aux_scale_100``. In evaluation they are ``logits``; ``attention`` (B,S,H,W),
    the map of each scale from the smallest on, of which the largest's is not used; and ``weights`` (B,S,H,W), what each
    scale contributes, which alone sum to 1. ``features`` are those of 1.0x.

    Args:
        net: any net; its ``features`` are what the attention head reads.
        low_scale: the scale beside 1.0 in training, below 1.
        scales: those of evaluation, in any order; 1.0 must be among them. Others may be assigned later, trained or
            not.
        attention_channels: width of each 3x3 convolution of the attention head; ``[256]`` is one instead of two.
        attention_dropout, zero_init: see ``AttentionHead``; a zero start is an attention of 0.5 everywhere.
        supervise: also put out the prediction of each scale.

    Raises:
        UserError: for scales that are not numbers above 0, given twice or without 1.0, and another ``low_scale``.
    """

    @checked("model.scales")
    def __init__(
        self,
        *,
        net: Net,
        low_scale: Positive = 0.5,
        scales: Factors = (0.5, 1.0),
        attention_channels: Sequence[Channels] = (256, 256),
        attention_dropout: Share = 0.0,
        zero_init: bool = False,
        supervise: bool = False,
    ) -> None:
        super().__init__(net, scales, supervise=supervise)
        if low_scale >= 1:
            raise UserError(f"low_scale is {low_scale}; use a factor between 0 and 1, which the net sees beside 1.0")
        self.low_scale = low_scale
        self.attention = AttentionHead(
            net.feature_channels, attention_channels, 1, norm=True, dropout=attention_dropout, zero_init=zero_init
        )

    def at_scale(self, image: Tensor, scale: float, *, resize: Callable[..., Any] = resize) -> dict[str, Any]:
        """One scale alone.

        Args:
            image: (B,in_channels,H,W) at 1.0x.
            scale: factor on its size; h and w are rounded down.
            resize: what resizes the maps.

        Returns:
            ``logits``, and ``aux_<name>`` in training, (B,K,h,w); ``attention`` (B,1,h,w), 0 to 1; the net's
            ``features``.
        """
        scaled = rescale(image, scale, align_corners=self.align_corners)
        outputs = self.net.decode(scaled)
        features = outputs.pop("features")
        outputs["attention"] = self.attention(features).sigmoid()
        size = scaled.shape[-2:]
        maps = {name: resize(each, size, align_corners=self.align_corners) for name, each in outputs.items()}
        return {"features": features} | maps

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Fused outputs (B,K,H,W), see the class, and ``features`` of 1.0x; see ``Net.decode``."""
        scales = (self.low_scale, 1.0) if self.training else self.scales
        self.check_scales(image, scales)
        passes = [self.at_scale(image, scale) for scale in scales]  # the smallest first, as in the release
        features = [each.pop("features") for each in passes][scales.index(1.0)]
        attention = [each.pop("attention") for each in passes]
        outputs = {
            name: fuse_hierarchical(
                [each[name] for each in passes], attention, scales, align_corners=self.align_corners
            )
            for name in passes[0]
        }
        if not self.training:
            outputs |= {
                "attention": torch.cat(
                    [resize(each, image.shape[-2:], align_corners=self.align_corners) for each in attention], dim=1
                ),
                "weights": hierarchical_weights(attention, scales, align_corners=self.align_corners),
            }
        elif self.supervise:
            outputs |= own_predictions(scales, [each["logits"] for each in passes])
        return {"features": features} | outputs

    def full_size_logits(
        self, image: Tensor, *, resize: Callable[..., Any] = resize, combine: Callable[..., Any] = combine
    ) -> Any:
        self.check_scales(image, self.scales)
        passes = (self.at_scale(image, scale, resize=resize) for scale in self.scales)
        logits, attention = zip(*map(itemgetter("logits", "attention"), passes), strict=True)  # features are freed
        return fuse_hierarchical(
            logits, attention, self.scales, align_corners=self.align_corners, resize=resize, combine=combine
        )


class ExplicitAttention(MultiScale):
    """A net at every scale of one fixed list, in training and in evaluation, with a weight per scale and pixel.

    The features of all scales are resized to those of 1.0x and concatenated; the head's softmax over the scales weighs
    the logits, and likewise auxiliary ones, at the image's size. Outputs are those of ``HierarchicalAttention``, with
    ``attention`` and ``weights`` the same and one ``aux_scale_<percent>`` for each scale.

    Args:
        net: any net.
        scales: of training and evaluation, in any order; 1.0 must be among them. They are saved with the weights, which
            a net with other scales refuses.
        attention_channels: width of each 3x3 convolution of the head.
        norm: batch norm instead of biases in the head; in the release with widths of 256, 256.
        attention_dropout: see ``AttentionHead``.
        supervise: also put out the prediction of each scale in training, which Chen et al. train on the label too.

    Raises:
        UserError: for fewer than two scales, and those that ``HierarchicalAttention`` refuses.
    """

    @checked("model.scales")
    def __init__(
        self,
        *,
        net: Net,
        scales: Factors = (0.5, 1.0, 2.0),
        attention_channels: Sequence[Channels] = (512,),
        norm: bool = False,
        attention_dropout: Share = 0.0,
        supervise: bool = True,
    ) -> None:
        super().__init__(net, scales, supervise=supervise)
        if len(self.scales) < 2:
            raise UserError(f"scales is {list(scales)}; explicit attention needs two or more")
        self.attention = AttentionHead(
            len(self.scales) * net.feature_channels,
            attention_channels,
            len(self.scales),
            norm=norm,
            dropout=attention_dropout,
            zero_init=False,
        )

    def get_extra_state(self) -> Tensor:
        """The scales, as part of the state dict."""
        return torch.tensor(self.scales)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse weights that were trained at other scales than these.

        Raises:
            UserError: naming both lists.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            trained = [float(f"{scale:.6g}") for scale in state.tolist()]
            raise UserError(
                f"scales is {list(self.scales)}, but explicit attention works only at those it was trained at: set"
                f" model.scales.scales={trained}"
            )

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Weighted outputs (B,K,H,W), see the class, and ``features`` of 1.0x; see ``Net.decode``."""
        size, align_corners = image.shape[-2:], self.align_corners
        passes, middle, attention = self._passes(image)
        weights = resize(attention, size, align_corners=align_corners)
        own = [resized(each, size, align_corners=align_corners) for each in passes]
        outputs = {name: weighted_sum(weights, *(each[name] for each in own)) for name in own[0]}
        if not self.training:
            outputs |= {"attention": weights, "weights": weights}
        elif self.supervise:
            outputs |= own_predictions(self.scales, [each["logits"] for each in own])
        return {"features": middle} | outputs

    def full_size_logits(
        self, image: Tensor, *, resize: Callable[..., Any] = resize, combine: Callable[..., Any] = combine
    ) -> Any:
        passes, _, attention = self._passes(image)
        size, maps = image.shape[-2:], [attention, *(each["logits"] for each in passes)]
        return combine(weighted_sum, *(resize(each, size, align_corners=self.align_corners) for each in maps))

    def _passes(self, image: Tensor) -> tuple[list[dict[str, Tensor]], Tensor, Tensor]:
        """The net's outputs at each scale, its features at 1.0x, and the attention (B,S,h,w) at their size."""
        self.check_scales(image, self.scales)
        align_corners = self.align_corners
        passes = [self.net.decode(rescale(image, scale, align_corners=align_corners)) for scale in self.scales]
        features = [each.pop("features") for each in passes]
        middle = features[self.scales.index(1.0)]
        together = [resize(each, middle.shape[-2:], align_corners=align_corners) for each in features]
        return passes, middle, self.attention(torch.cat(together, dim=1)).softmax(dim=1)
