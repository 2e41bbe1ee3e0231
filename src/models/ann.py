"""ANN, asymmetric non-local neural networks (Zhu, Xu, Bai, Huang, Bai 2019, arXiv 1908.07678).

A non-local block relates all N = H*W positions to one another, which costs O(N^2) in time and memory. Its output is as
long as its query alone, so key and value may be sampled to S << N points: O(N S). The blocks, all of one class
(``src.models.ann_layers``):

* APNB, asymmetric pyramid non-local: refines one map, sampled;
* AFNB, asymmetric fusion non-local: query from Stage 5, key and value from Stage 4, sampled;
* NB and FNB, the same without a sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count, Seed, Share
from .ann_layers import NonLocalBlock
from .ann_samplers import Sampler
from .layers import ConvNormAct, FCNHead, init_kaiming
from .net import Backbone, Net

__all__ = ["ANN"]


class CommonFusion(nn.Module):
    """Stage 5 plus ReLU(BN(Conv(Stage 4))), what AFNB is compared with: two maps -> (B,high_channels,H,W)."""

    def __init__(self, high_channels: int, low_channels: int, *, bias: bool, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.project = ConvNormAct(low_channels, high_channels, kernel_size=1, bias=bias)
        init_kaiming(self)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return high + resize(self.project(low), high.shape[-2:], align_corners=self.align_corners)


class ANN(Net):
    """A trunk, fusion of its last two stages, a 3x3 convolution, a non-local block, a classifier.

    ``fusion`` and ``refine`` give all rows of the paper's ablation. Stages are the paper's: 5 is the backbone's last
    feature, 4 the last but one. ``decode`` gives ``logits`` at Stage 5's size and, in training, ``aux_stage4``.

    Args:
        num_classes: K, see ``Net``.
        backbone: gives feature maps, see ``src.models.backbones``.
        fusion: ``afnb``, ``fnb``, ``common`` (see ``CommonFusion``), or ``None``: Stage 5 alone.
        refine: ``apnb``, ``nb`` or ``None``.
        in_channels: channels of the image.
        channels: width after the 3x3 convolution.
        key_channels, value_channels, weights, merge, zero_init, context_norm, attention: of both blocks, see
            ``NonLocalBlock``.
        fusion_sharing, sharing: of the fusion block and of the other, see ``NonLocalBlock``.
        sampler, sizes, points, sampler_seed: of AFNB and APNB, see ``Sampler``.
        bias: of convolutions before a norm.
        dropout: share of channels that is zeroed in training after the fusion block, before the classifier and in the
            auxiliary head.
        aux_channels: width of the auxiliary head's 3x3 convolution; ``None`` is no such head.
        aux_stage: 2 to 5, what that head reads; its output is ``aux_stage<number>``.
        align_corners: of every resize.

    Raises:
        UserError: for a value outside these limits, or a stage that the backbone lacks.
    """

    backbone: Backbone

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        backbone: Backbone,
        fusion: Literal["afnb", "fnb", "common"] | None = "afnb",
        refine: Literal["apnb", "nb"] | None = "apnb",
        in_channels: Channels = 3,
        channels: Channels = 512,
        key_channels: Channels = 256,
        value_channels: Channels = 256,
        fusion_sharing: Literal["none", "query_key", "key_value", "all"] = "none",
        sharing: Literal["none", "query_key", "key_value", "all"] = "query_key",
        sampler: str = "pyramid_average",
        sizes: Sequence[int | Sequence[int]] = (1, 3, 6, 8),
        points: Count = 110,
        sampler_seed: Seed = 0,
        weights: Literal["softmax", "rescale", "none"] = "softmax",
        merge: Literal["concat", "residual"] = "concat",
        zero_init: bool = True,
        context_norm: bool = False,
        attention: Literal["fused", "naive"] = "fused",
        bias: bool = True,
        dropout: Share = 0.05,
        aux_channels: Channels | None = 512,
        aux_stage: Count = 4,
        align_corners: bool = True,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels, align_corners=align_corners)
        low, high = backbone.channels[-2:]
        sample = partial(Sampler, sampler, sizes=sizes, points=points, seed=sampler_seed)
        block = partial(
            NonLocalBlock,
            key_channels=key_channels,
            value_channels=value_channels,
            weights=weights,
            merge=merge,
            zero_init=zero_init,
            context_norm=context_norm,
            bias=bias,
            attention=attention,
        )
        self.backbone, self.feature_channels = backbone, channels
        self.head = FCNHead(channels, (), num_classes, dropout=dropout)
        self.fusion: nn.Module | None = None
        self.refine: nn.Module | None = None
        if fusion == "common":
            self.fusion = CommonFusion(high, low, bias=bias, align_corners=align_corners)
        elif fusion is not None:
            chosen = sample() if fusion == "afnb" else None
            self.fusion = block(high, low, sampler=chosen, sharing=fusion_sharing, merge_act=False)
        self.dropout = nn.Dropout2d(dropout)
        self.reduce = ConvNormAct(high, channels, bias=bias)
        if refine is not None:
            self.refine = block(channels, sampler=sample() if refine == "apnb" else None, sharing=sharing)
        init_kaiming(self.reduce)
        init_kaiming(self.head)
        self.aux_stage, self.aux_head = aux_stage, None
        if aux_channels is not None:
            width = backbone.channels[_level(backbone, aux_stage)]
            self.aux_head = FCNHead(width, [aux_channels], num_classes, bias=bias, dropout=dropout)
            init_kaiming(self.aux_head)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """See ``Net.decode``; in training a map must have more positions than the samplers take points."""
        self.check(image)
        features = self.backbone(image)
        x = features[-1]
        if self.fusion is not None:
            x = self.dropout(self.fusion(x, features[-2]))
        x = self.reduce(x)
        if self.refine is not None:
            x = self.refine(x)
        outputs = {"features": x, "logits": self.head(x)}
        if self.training and self.aux_head is not None:
            level = _level(self.backbone, self.aux_stage)
            outputs[f"aux_stage{self.aux_stage}"] = self.aux_head(features[level])
        return outputs


def _level(backbone: Backbone, stage: int) -> int:
    """Index of a stage's feature; Stage 5 is the last."""
    count = len(backbone.channels)
    if stage not in range(max(2, 6 - count), 6):
        raise UserError(f"aux_stage is {stage}; the backbone has stages {max(2, 6 - count)} to 5")
    return count + stage - 6
