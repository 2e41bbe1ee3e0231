"""Projects whose weights load here: names of tensors, what their nets expect of an image, how they are scored.

Statistics and protocols are those of each project's evaluation code. A new project is one entry of ``SOURCES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..rename_rules import Rules
from . import (
    coincheung,
    deeplab_pytorch,
    hrnet_semantic,
    mendelxu,
    mmseg,
    nvidia,
    qubvel,
    torchvision,
    vainf,
)

__all__ = ["SOURCES", "Protocol", "Source", "Statistics"]


@dataclass(frozen=True)
class Statistics:
    """Mean and std of red, green and blue, 0..1, and the order in which a net takes the three."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "rgb"


@dataclass(frozen=True)
class Protocol:
    """How a published figure was measured where it was not once, at the image's size."""

    scales: tuple[float, ...] | None = None  # of the net's own attention over scales
    flip: bool = False
    short_side: int | None = None  # of the image at scale 1, in pixels
    long_side: int | None = None


@dataclass(frozen=True)
class Source:
    """A project.

    Args:
        project: its name, as people call it.
        rules: net class -> rules from its names to ours.
        statistics: of all its weights, or by the start of a data set's name; ``""`` is any data.
        models: model configs that equal its nets, overrides included.
        protocols: by data set; others are scored once, at the image's size.
    """

    project: str
    rules: Mapping[str, Rules]
    statistics: Mapping[str, Statistics]
    models: tuple[str, ...]
    protocols: Mapping[str, Protocol] = field(default_factory=dict)

    def statistics_for(self, data: str) -> Statistics | None:
        """Those of weights trained on ``data``; ``None`` if the project says nothing of it."""
        fitting = [start for start in self.statistics if data.startswith(start)]
        return self.statistics[max(fitting, key=len)] if fitting else None


_SCENES = ("ade20k", "voc", "voc_aug", "coco_stuff", "coco_stuff_10k")


def _caffe(blue: float, green: float, red: float) -> Mapping[str, Statistics]:
    """0..255 less a mean, BGR."""
    return {"": Statistics((red / 255, green / 255, blue / 255), (1 / 255,) * 3, "bgr")}


_IMAGENET = {"": Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}

SOURCES: dict[str, Source] = {
    "coincheung": Source(
        "CoinCheung/BiSeNet",
        coincheung.RULES,
        {
            "cityscapes": Statistics((0.3257, 0.369, 0.3223), (0.2112, 0.2148, 0.2115)),
            "coco_stuff": Statistics((0.46962251, 0.4464104, 0.40718787), (0.27469736, 0.27012361, 0.28515933)),
            "ade20k": Statistics((0.4934323, 0.46819794, 0.43106043), (0.25680755, 0.25506608, 0.27422913)),
        },
        ("bisenetv2_coincheung", "bisenetv1"),
    ),
    "mmseg": Source(
        "mmsegmentation",
        mmseg.RULES,
        _IMAGENET,
        (
            "bisenetv2_mmseg",
            "fcn_mmseg",
            "fcn_hrnet_w48_mmseg",
            "pspnet_mmseg",
            "nonlocal_mmseg",
            "ann_mmseg",
            "ann_mmseg model.net.backbone.name=resnet50c",
            "deeplab_v3_mmseg",
            "deeplab_v3plus_mmseg",
            "hrnet_ocr_mmseg",
        ),
        {
            **dict.fromkeys(_SCENES, Protocol(short_side=512, long_side=2048)),
            "pascal_context": Protocol(long_side=520),
            "pascal_context60": Protocol(long_side=520),
        },
    ),
    "nvidia": Source(
        "NVIDIA/semantic-segmentation",
        nvidia.RULES,
        _IMAGENET,
        ("hrnet_ocr_hierarchical", "hrnet_ocr"),
        {"cityscapes": Protocol((0.5, 1.0, 2.0)), "mapillary": Protocol((0.25, 0.5, 1.0, 2.0), flip=True)},
    ),
    "hrnet": Source(
        "HRNet/HRNet-Semantic-Segmentation", hrnet_semantic.RULES, _IMAGENET, ("hrnet_ocr_hrnet", "fcn_hrnet_w48")
    ),
    "torchvision": Source(
        "torchvision",
        torchvision.RULES,
        _IMAGENET,
        (
            "deeplab_v3_torchvision",
            "deeplab_v3_torchvision model.net.backbone.name=resnet50",
            "fcn_torchvision",
            "fcn_torchvision model.net.backbone.name=resnet50",
        ),
    ),
    "vainf": Source(
        "VainF/DeepLabV3Plus-Pytorch",
        vainf.RULES,
        _IMAGENET,
        (
            "deeplab_v3plus_vainf",
            "deeplab_v3plus_vainf_mobilenet",
            "deeplab_v3plus_vainf_xception",
            "deeplab_v3_vainf",
        ),
    ),
    "ann": Source("MendelXu/ANN", mendelxu.RULES, _caffe(102.9801, 115.9465, 122.7717), ("ann",)),
    "deeplab_pytorch": Source(
        "kazuto1011/deeplab-pytorch",
        deeplab_pytorch.RULES,
        _caffe(104.008, 116.669, 122.675),
        ("deeplab_v2_kazuto", "deeplab_v1_kazuto", "deeplab_v3_kazuto", "deeplab_v3plus_kazuto"),
    ),
    "smp": Source(
        "segmentation_models_pytorch",
        qubvel.RULES,
        _IMAGENET,
        (
            "smp model.net.arch=unet model.net.encoder=resnet34",
            "smp model.net.arch=fpn model.net.encoder=resnet34",
            "smp model.net.arch=deeplabv3plus model.net.encoder=resnet101",
        ),
    ),
}
