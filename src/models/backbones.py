"""Backbones: timm trunks behind one contract.

A backbone is a module whose ``forward(image)`` returns a list of feature maps, fine to coarse, from 1/4 of the image
on, with ``channels`` and ``strides`` (against the image) by feature. ``create_backbone`` gives one by timm's name:

* ResNets (ResNeXt, SE, wide, the deep stems ``resnet101c`` with 32-32-64 and ``resnet101s`` with 64-64-128 channels
  included) with the dilation, stride and pooling conventions of the segmentation papers;
* HRNets with all branches at the end (``src.models.hrnet``);
* Xception, by the name ``legacy_xception``, with rates in place of strides (``src.models.xception``);
* any other trunk with feature maps, where its strides allow the output stride.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError, nearest
from ..schema.types import Channels, Count
from .checks import check_rates
from .hrnet import HRNet
from .layers import CeilMaxPool2d, dilate, init_kaiming, recompute
from .net import Backbone
from .timm_trunks import create_feature_trunk, create_trunk
from .xception import Xception

__all__ = ["ResNet", "TimmBackbone", "create_backbone", "level_of_stride"]

OUTPUT_STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """Any timm trunk that was made with ``features_only``: image (B,C,H,W) -> list of (B,channels[i],h,w).

    Images are padded with zeros to whole patches where the trunk cuts them into patches.
    """

    trunk: Any

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.channels, self.strides = trunk.feature_info.channels(), trunk.feature_info.reduction()
        self.channels_last = str(getattr(trunk, "output_fmt", "NCHW")).endswith("NHWC")
        embed = next((part for name, part in trunk.named_modules() if name.endswith("patch_embed")), None)
        self.patch = getattr(embed, "patch_size", (1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        if self.patch != (1, 1):
            image = F.pad(image, (0, -width % self.patch[1], 0, -height % self.patch[0]))
        features = self.trunk(image)
        return [x.permute(0, 3, 1, 2) for x in features] if self.channels_last else features


class ResNet(Backbone):
    """A timm ResNet with the conventions of the segmentation papers: image -> features of its four stages.

    Args:
        trunk: timm's ResNet, made with the output stride; its classifier is dropped.
        output_stride: 8, 16 or 32.
        multi_grid: unit rates of the three blocks of the last stage (DeepLab v3, section 3.2.1): block i gets its
            stage's rate times ``multi_grid[i]``. ``None`` is 1 everywhere.
        contract_dilation: the first block of a dilated stage keeps the rate of the stage before (torchvision, ANN,
            mmsegmentation); else all blocks have the stage's rate (DeepLab v2, NVIDIA). A multi-grid overrides it.
        stride_on_1x1: a stage's stride is on its first 1x1 convolution (Caffe, DeepLab v2), not on its first 3x3.
        ceil_pool: the stem's pooling rounds sizes up (Caffe, DeepLab v2, ANN).
        checkpointing: keep one map per block for the backward pass and compute the rest again (less memory, more time).

    Raises:
        UserError: for a multi-grid of another length, or an option that the blocks of this trunk cannot follow.
    """

    trunk: Any

    def __init__(
        self,
        trunk: Any,
        *,
        output_stride: int,
        multi_grid: Sequence[int] | None = None,
        contract_dilation: bool = True,
        stride_on_1x1: bool = False,
        ceil_pool: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        trunk.reset_classifier(0)
        self.trunk, self.checkpointing = trunk, checkpointing
        stages = self.stages()
        self.channels = [info["num_chs"] for info in trunk.feature_info[-len(stages) :]]
        self.strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
        self.rates = [max(1, stride // output_stride) for stride in (4, 8, 16, 32)]
        if not contract_dilation:
            for stage, rate in zip(stages, self.rates, strict=True):
                dilate(stage, rate)
        self.multi_grid = [1] * len(stages[-1]) if multi_grid is None else list(multi_grid)
        if multi_grid is not None:
            check_rates("multi_grid", multi_grid)
            if len(multi_grid) != len(stages[-1]):
                raise UserError(
                    f"multi_grid is {list(multi_grid)}, but the last stage of the trunk has {len(stages[-1])} blocks;"
                    " give one rate for each"
                )
            for block, unit in zip(stages[-1], multi_grid, strict=True):
                dilate(block, self.rates[-1] * unit)
        if stride_on_1x1:
            for stage in stages[1:]:
                _move_stride(stage[0])
        if ceil_pool:
            trunk.maxpool = CeilMaxPool2d(3, padding=1)

    def stages(self) -> list[nn.Sequential]:
        """The four stages, each a sequence of residual blocks."""
        return [self.trunk.layer1, self.trunk.layer2, self.trunk.layer3, self.trunk.layer4]

    def another_stage(self, rate: int) -> nn.Sequential:
        """A stage like the last, as long and as wide, to follow it (DeepLab v3, section 3.1): (B,C,H,W) -> (B,C,H,W).

        Its blocks have ``rate`` times the multi-grid and new weights, with which each passes its input on.
        """
        stage = nn.Sequential()
        for unit in self.multi_grid:
            block: Any = copy.deepcopy(self.stages()[-1][-1])  # timm's
            for part in block.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.reset_parameters()
            init_kaiming(block)
            block.zero_init_last()
            dilate(block, rate * unit)
            stage.append(block)
        return stage

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> four maps at ``strides``."""
        trunk = self.trunk
        x = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(image))))
        features = []
        for stage in self.stages():
            for block in stage:
                x = recompute(block, x) if self.checkpointing and self.training else block(x)
            features.append(x)
        return features


def create_backbone(
    name: str = "resnet50",
    *,
    output_stride: Count = 32,
    pretrained: bool | str = False,
    in_channels: Channels = 3,
    align_corners: bool = False,
    upsample_by_factor: bool = False,
    checkpointing: bool = False,
    pad_block_inputs: bool = False,
    linear_features: bool = False,
    exit_padding: Count | None = None,
    **resnet: Any,
) -> Backbone:
    """A backbone by timm's name; ``timm.list_models()`` lists them.

    Args:
        name: of the trunk, for example ``resnet101``, ``hrnet_w48``, ``xception65``, ``convnext_tiny``.
        output_stride: size of the image over that of the coarsest feature: 8, 16 or 32. HRNets have 32 only.
        pretrained: ``true`` for timm's ImageNet weights, or the path of a file that holds them.
        in_channels: channels of the image.
        align_corners: of an HRNet's resizes.
        upsample_by_factor: see ``HRNet``.
        checkpointing: see ``ResNet``; HRNets have it too.
        pad_block_inputs: MobileNetV2's 3x3 convolutions have no padding. Zeros are around the input of each inverted
            residual instead, before its 1x1 expansion, and none are around the image (VainF).
        linear_features, exit_padding: see ``Xception``.
        **resnet: the other options of ``ResNet``, for ResNets only.

    Raises:
        UserError: for an unknown name, an output stride or option that the trunk cannot have, or missing weights.
    """
    import timm  # takes seconds, for nets with a backbone only

    if name not in timm.list_models():
        raise UserError(f"backbone '{name}' is unknown to timm {timm.__version__}.{nearest(name, timm.list_models())}")
    if output_stride not in OUTPUT_STRIDES:
        raise UserError(f"output_stride is {output_stride}; use one of 8, 16, 32")
    family = timm.model_entrypoint(name).__module__.rpartition(".")[2]
    if unknown := [option for option in resnet if option not in inspect.signature(ResNet).parameters]:
        raise UserError(f"{', '.join(unknown)}: no option of create_backbone; leave it out")
    given = [option for option, value in resnet.items() if value not in (None, False)]
    if given and family != "resnet":
        raise UserError(f"{', '.join(given)}: for ResNets only, and {name} is none; set to null or choose a ResNet")
    if upsample_by_factor and family != "hrnet":
        raise UserError(f"upsample_by_factor is for HRNets, and {name} is none; set it to false")
    if (linear_features or exit_padding is not None) and family != "xception":
        raise UserError(
            f"linear_features and exit_padding are for legacy_xception; set them to false and null for {name}"
        )
    if checkpointing and family not in ("resnet", "hrnet"):
        raise UserError(f"checkpointing is for ResNets and HRNets; set it to false for {name}")
    common = {"name": name, "pretrained": pretrained, "in_chans": in_channels}
    if family == "resnet":
        trunk = create_trunk(output_stride=output_stride, **common)
        backbone = ResNet(trunk, output_stride=output_stride, checkpointing=checkpointing, **resnet)
    elif family == "hrnet":
        backbone = HRNet(
            create_trunk(**common),
            align_corners=align_corners,
            upsample_by_factor=upsample_by_factor,
            checkpointing=checkpointing,
        )
    elif family == "xception":
        trunk = create_trunk(**common)
        backbone = Xception(
            trunk, output_stride=output_stride, linear_features=linear_features, exit_padding=exit_padding
        )
    else:
        backbone = TimmBackbone(create_feature_trunk(output_stride=output_stride, **common))
    if pad_block_inputs:
        _pad_block_inputs(backbone.trunk, name)
    if backbone.strides[-1] != output_stride:
        raise UserError(
            f"output_stride={output_stride} is needed, but {name} gives features at strides"
            f" {', '.join(map(str, backbone.strides))}; choose another backbone or the output_stride it has"
        )
    return backbone


def level_of_stride(backbone: Backbone, stride: int, wanted_by: str) -> int:
    """Index of the last feature at ``stride``.

    Raises:
        UserError: naming the strides there are, and ``wanted_by``.
    """
    levels = [level for level, each in enumerate(backbone.strides) if each == stride]
    if not levels:
        raise UserError(
            f"{wanted_by} needs a feature at stride {stride}, but the backbone has strides"
            f" {', '.join(map(str, backbone.strides))}; choose another backbone"
        )
    return levels[-1]


def _pad_block_inputs(trunk: Any, name: str) -> None:
    if not name.startswith("mobilenetv2"):
        raise UserError(f"pad_block_inputs is an option of MobileNetV2, and {name} is none; set it to false")
    trunk.conv_stem.padding = (0, 0)
    for block in (part for part in trunk.modules() if hasattr(part, "conv_pwl")):  # timm's inverted residuals
        block.conv_pw.padding, block.conv_dw.padding = block.conv_dw.padding, (0, 0)


def _move_stride(block: Any) -> None:
    if not hasattr(block, "conv3"):  # timm's basic blocks have two convolutions
        raise UserError("stride_on_1x1 is for bottleneck blocks; choose resnet50 or deeper")
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
