"""BiSeNet V2 (Yu et al., IJCV 2021, arXiv 2004.02147): a wide shallow Detail Branch at 1/8 of the image, a narrow deep
Semantic Branch at 1/32, Bilateral Guided Aggregation of both, and Booster heads on the semantic stages in training.

Where the paper is silent or can be read in two ways an argument decides, and its default follows the paper's text and
costs. Two public implementations are settings of these arguments, so that their weights load. Deviation: upsampling
aims at a target size, not at a fixed factor, so any image of 32x32 pixels or more is legal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from ..errors import UserError
from ..ops.resize import resize
from ..schema.faults import checked
from ..schema.types import Channels, Count, Positive, Share, Widths
from .backbones import level_of_stride
from .bisenetv2_layers import (
    BilateralGuidedAggregation,
    ContextEmbedding,
    GatherExpansion,
    PlainAggregation,
    StemBlock,
    Upsample,
)
from .checks import check_choice, scale_counts
from .layers import ConvNormAct, FCNHead, init_kaiming
from .net import Backbone, Net

__all__ = ["BiSeNetV2"]

STAGES = ("s2", "s3", "s4", "s5_4", "s5_5")  # of the Semantic Branch: Stem to S5 before and after Context Embedding
BOOSTER = MappingProxyType({"s2": (128,), "s3": (128,), "s4": (128,), "s5_4": (128,)})

Layer = Callable[..., nn.Module]


class DetailBranch(nn.Sequential):
    """VGG-like stages S1 to S3 (Table 1): (B,in_channels,H,W) -> (B,channels[2],H/8,W/8)."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        for stage, (out_channels, length) in enumerate(zip(channels, (2, 3, 3), strict=True), start=1):
            convs = [ConvNormAct(in_channels, out_channels, stride=2)]
            convs += [ConvNormAct(out_channels, out_channels) for _ in range(length - 1)]
            self.add_module(f"s{stage}", nn.Sequential(*convs))
            in_channels = out_channels


class SemanticBranch(nn.Module):
    """Stem, three stages of Gather-and-Expansion layers, Context Embedding (Table 1).

    ``channels`` are the widths of stem, S3, S4 and S5, ``repeats`` the layers in S3, S4 and S5; ``layer`` makes each
    from its input channels, output channels and ``stride``, which is 2 for the first. ``norm``: see ContextEmbedding.
    """

    s3: nn.Sequential
    s4: nn.Sequential
    s5_4: nn.Sequential

    def __init__(
        self, in_channels: int, channels: Sequence[int], repeats: Sequence[int], *, layer: Layer, norm: bool
    ) -> None:
        super().__init__()
        self.stem = StemBlock(in_channels, channels[0])
        for name, before, width, repeat in zip(("s3", "s4", "s5_4"), channels[:-1], channels[1:], repeats, strict=True):
            layers = [layer(before, width, stride=2)] + [layer(width, width, stride=1) for _ in range(repeat - 1)]
            self.add_module(name, nn.Sequential(*layers))
        self.channels = [*channels, channels[-1]]  # of the maps, in the order of STAGES
        self.context = ContextEmbedding(channels[-1], channels[-1], norm=norm)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Maps by stage: s2 at 1/4 of the image, s3 at 1/8, s4 at 1/16, s5_4 and, with global context, s5_5 at 1/32."""
        s2 = self.stem(image)
        s3 = self.s3(s2)
        s4 = self.s4(s3)
        s5_4 = self.s5_4(s4)
        return {"s2": s2, "s3": s3, "s4": s4, "s5_4": s5_4, "s5_5": self.context(s5_4)}


class TrunkBranch(nn.Module):
    """Another trunk as Semantic Branch: from its features, at strides 4 to 32, the stages of ``SemanticBranch``."""

    def __init__(self, backbone: Backbone, out_channels: int, *, norm: bool) -> None:
        super().__init__()
        self.levels = [level_of_stride(backbone, stride, "the semantic branch") for stride in (4, 8, 16, 32)]
        self.channels = [*(backbone.channels[level] for level in self.levels), out_channels]
        self.context = ContextEmbedding(self.channels[-2], out_channels, norm=norm)

    def forward(self, features: Sequence[Tensor], image_size: Sequence[int]) -> dict[str, Tensor]:
        stages = dict(zip(STAGES[:4], (features[level] for level in self.levels), strict=True))
        size = [(side - 1) // 32 + 1 for side in image_size]  # as in the detail branch; some trunks round down
        return stages | {"s5_5": self.context(resize(stages["s5_4"], size))}


class BiSeNetV2(Net):
    """BiSeNet V2; the Large variant is ``width_multiplier=2, depth_multiplier=3``.

    ``decode`` gives ``logits`` at 1/8 of the image and, in training, ``aux_<stage>`` at the stage's size (at twice that
    with ``aux_upsample``).

    Args:
        num_classes, in_channels: see ``Net``.
        backbone: a light trunk with strides 4 to 32 in place of the Semantic Branch (the paper's generality
            experiments), whose widths, depth and layers it replaces; see ``src.models.backbones``.
        width_multiplier: alpha, on every width, heads included (the paper's wider models cost so).
        depth_multiplier: d, at least 1: 2d, 2d, 4d layers in S3, S4, S5 (only this gives the deeper models' costs).
        channel_ratio: lambda, widths of stem and S3 over those of the Detail Branch; S4 and S5 do not follow it.
        expansion: epsilon of the Gather-and-Expansion layers.
        expand_at, depthwise_relu, zero_init_residual: see ``GatherExpansion``.
        context_norm: see ``ContextEmbedding``.
        fusion: ``"bga"``, Table 2's baselines ``"sum"`` and ``"concat"``, or one branch: ``"detail"``, ``"semantic"``.
        upsample, fusion_relu, gate_bias: see ``BilateralGuidedAggregation``.
        head_channels: width of the main head at alpha = 1; of the multiples of 32, 352 comes closest to the published
            cost at 512x1024, with 21.18 of 21.15 G multiply-adds.
        aux_channels: stage -> widths of its booster head's 3x3 convolutions at alpha = 1 (one convolution in Fig. 7);
            ``None``, for a stage or for all, is no head.
        aux_upsample: dropout and nearest x2 upsampling follow a booster head's first convolution (public code).
        dropout: share of head channels dropped in training.

    Raises:
        UserError: for a value outside these limits, and for a count of channels or layers that is not whole.
    """

    backbone: Backbone | None

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Channels = 3,
        backbone: Backbone | None = None,
        width_multiplier: Positive = 1.0,
        depth_multiplier: Positive = 1.0,
        channel_ratio: Positive = 0.25,
        expansion: Count = 6,
        expand_at: Literal["conv", "depthwise"] = "conv",
        depthwise_relu: bool = False,
        context_norm: bool = False,
        fusion: Literal["bga", "sum", "concat", "detail", "semantic"] = "bga",
        upsample: Upsample = "bilinear",
        fusion_relu: bool = False,
        gate_bias: bool = False,
        head_channels: Channels = 352,
        aux_channels: Mapping[str, Widths | None] | None = BOOSTER,
        aux_upsample: bool = False,
        dropout: Share = 0.0,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__(num_classes=num_classes, in_channels=in_channels)
        boosters = {stage: widths for stage, widths in (aux_channels or {}).items() if widths is not None}
        for stage in boosters:
            check_choice("a stage of aux_channels", stage, STAGES)
        if fusion == "detail" and (boosters or backbone is not None):
            raise UserError(
                "fusion=detail leaves no semantic branch for booster heads or another trunk; set"
                " model.net.backbone=null model.net.aux_channels=null model.aux_weights=null"
            )
        self.fusion, self.upsample = fusion, upsample
        wide = partial(scale_counts, factor=width_multiplier, option="width_multiplier")
        widths = wide((*scale_counts((64, 128), channel_ratio, "channel_ratio"), 64, 128))
        repeats = scale_counts((2, 2, 4), depth_multiplier, "depth_multiplier", least=2)
        layer = partial(GatherExpansion, expansion=expansion, expand_at=expand_at)
        layer = partial(layer, depthwise_relu=depthwise_relu, zero_init=zero_init_residual)
        channels = widths[-1]
        if fusion != "semantic":
            self.detail = DetailBranch(in_channels, wide((64, 64, 128)))
        if backbone is not None:
            self.semantic = TrunkBranch(backbone, channels, norm=context_norm)
        elif fusion != "detail":
            self.semantic = SemanticBranch(in_channels, widths, repeats, layer=layer, norm=context_norm)
        self.aggregate = None
        if fusion == "bga":
            self.aggregate = BilateralGuidedAggregation(channels, upsample, gate_bias=gate_bias, relu=fusion_relu)
        elif fusion in ("sum", "concat"):
            self.aggregate = PlainAggregation(channels, upsample, concat=fusion == "concat", relu=fusion_relu)
        self.head = FCNHead(channels, wide((head_channels,)), num_classes, dropout=dropout)
        (self.feature_channels,) = wide((head_channels,))
        booster = partial(_booster_head, num_classes=num_classes, upsample=aux_upsample, dropout=dropout)
        inputs = {} if fusion == "detail" else dict(zip(STAGES, self.semantic.channels, strict=True))
        self.aux_heads = nn.ModuleDict({s: booster(inputs[s], wide(widths)) for s, widths in boosters.items()})
        init_kaiming(self)
        if backbone is not None:
            self.backbone = backbone  # keeps its own initialisation

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """See ``Net``; in training B must be at least 2."""
        self.check(image)
        if self.backbone is not None:
            stages = self.semantic(self.backbone(image), image.shape[-2:])
        else:
            stages = {} if self.fusion == "detail" else self.semantic(image)
        if self.fusion == "semantic":
            eighth = [(side + 7) // 8 for side in image.shape[-2:]]
            features = resize(stages["s5_5"], eighth, self.upsample)
        else:
            features = self.detail(image)
        if self.aggregate is not None:
            features = self.aggregate(features, stages["s5_5"])
        features = self.head.convs(features)
        outputs = {"features": features, "logits": self.head.classify(features)}
        if self.training:
            outputs |= {f"aux_{stage}": head(stages[stage]) for stage, head in self.aux_heads.items()}
        return outputs


def _booster_head(
    in_channels: int, channels: Sequence[int], *, num_classes: Count, upsample: bool, dropout: float
) -> nn.Module:
    """Logits at the stage's size, or at twice that with ``upsample``."""
    if not upsample:
        return FCNHead(in_channels, channels, num_classes, dropout=dropout)
    first = (ConvNormAct(in_channels, channels[0]), nn.Dropout2d(dropout), nn.Upsample(scale_factor=2))
    return nn.Sequential(*first, FCNHead(channels[0], channels[1:], num_classes))
