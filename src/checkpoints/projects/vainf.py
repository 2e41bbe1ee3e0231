"""VainF/DeepLabV3Plus-Pytorch: rules by net class. The tensors are under ``model_state`` in the file."""

from __future__ import annotations

from .torchvision import ASPP, NUMBERED, RESNET

__all__ = ["RULES"]

_MOBILENET = (  # numbered on from the stem, 0; timm numbers blocks within stages
    (r"^backbone\.(?:low|high)_level_features\.", "backbone.unit."),
    (r"^backbone\.unit\.0\.0\.", "backbone.trunk.conv_stem."),
    (r"^backbone\.unit\.0\.1\.", "backbone.trunk.bn1."),
    *(
        (rf"^backbone\.unit\.{first + i}\.", f"backbone.trunk.blocks.{stage}.{i}.")
        for stage, (first, blocks) in enumerate([(1, 1), (2, 2), (4, 3), (7, 4), (11, 3), (14, 3), (17, 1)])
        for i in range(blocks)
    ),
    (r"^(backbone\.trunk\.blocks\.0\.0)\.conv\.0\.0\.", r"\1.conv_dw."),
    (r"^(backbone\.trunk\.blocks\.0\.0)\.conv\.0\.1\.", r"\1.bn1."),
    (r"^(backbone\.trunk\.blocks\.0\.0)\.conv\.1\.", r"\1.conv_pw."),
    (r"^(backbone\.trunk\.blocks\.0\.0)\.conv\.2\.", r"\1.bn2."),
    (r"^(backbone\.trunk\.blocks\..*)\.conv\.0\.0\.", r"\1.conv_pw."),
    (r"^(backbone\.trunk\.blocks\..*)\.conv\.0\.1\.", r"\1.bn1."),
    (r"^(backbone\.trunk\.blocks\..*)\.conv\.1\.0\.", r"\1.conv_dw."),
    (r"^(backbone\.trunk\.blocks\..*)\.conv\.1\.1\.", r"\1.bn2."),
    (r"^(backbone\.trunk\.blocks\..*)\.conv\.2\.", r"\1.conv_pwl."),
    (r"^(backbone\.trunk\.blocks\..*)\.conv\.3\.", r"\1.bn3."),
)

_XCEPTION = ((r"^backbone\.((?:conv|bn|block)\d+)\.", r"backbone.trunk.\1."),)

RULES = {
    # loads into conf/model/deeplab_v3_vainf.yaml
    "DeepLabV3": (
        *RESNET,
        (r"^classifier\.classifier\.0\.", "aspp."),
        *ASPP,
        (r"^classifier\.classifier\.1\.", "head.convs.0.0."),
        (r"^classifier\.classifier\.2\.", "head.convs.0.1."),
        (r"^classifier\.classifier\.4\.", "head.classifier."),
        *NUMBERED,
    ),
    # loads into conf/model/deeplab_v3plus_vainf.yaml, deeplab_v3plus_vainf_mobilenet.yaml and _xception.yaml
    "DeepLabV3Plus": (
        *RESNET,
        *_MOBILENET,
        *_XCEPTION,
        (r"^classifier\.aspp\.", "aspp."),
        *ASPP,
        (r"^classifier\.project\.", "decoder.0.project."),
        (r"^classifier\.classifier\.([01])\.", r"decoder.0.refine.0.\1."),
        (r"^classifier\.classifier\.3\.", "head.classifier."),
        *NUMBERED,
    ),
}
