"""pytorch/vision, segmentation models: rules by net class. The file is the state dict, with the auxiliary head."""

from __future__ import annotations

__all__ = ["ASPP", "NUMBERED", "RESNET", "RULES"]

RESNET = ((r"^backbone\.(conv1|bn1|layer\d)\.", r"backbone.trunk.\1."),)
# names inside a DeepLab head that stands at aspp.
ASPP = (
    (r"^aspp\.convs\.0\.", "aspp.point."),
    *((rf"^aspp\.convs\.{i + 1}\.", f"aspp.atrous.{i}.") for i in range(3)),
    (r"^aspp\.convs\.4\.1\.", "aspp.pooling.conv.0."),
    (r"^aspp\.convs\.4\.2\.", "aspp.pooling.conv.1."),
)
# convolution 0 and norm 1 of a sequence; comes last
NUMBERED = (
    (r"^((?:aspp|decoder|head|aux_head)\..*)\.0\.(?=[a-z_]+$)", r"\1.conv."),
    (r"^((?:aspp|decoder|head|aux_head)\..*)\.1\.(?=[a-z_]+$)", r"\1.norm."),
)
AUX_HEAD = (
    (r"^aux_classifier\.([01])\.", r"aux_head.convs.0.\1."),
    (r"^aux_classifier\.4\.", "aux_head.classifier."),
)

RULES = {
    # loads into conf/model/deeplab_v3_torchvision.yaml
    "DeepLabV3": (
        *RESNET,
        (r"^classifier\.0\.", "aspp."),
        *ASPP,
        (r"^classifier\.1\.", "head.convs.0.0."),
        (r"^classifier\.2\.", "head.convs.0.1."),
        (r"^classifier\.4\.", "head.classifier."),
        *AUX_HEAD,
        *NUMBERED,
    ),
    # loads into conf/model/fcn_torchvision.yaml
    "DilatedFCN": (
        *RESNET,
        (r"^classifier\.([01])\.", r"head.convs.0.\1."),
        (r"^classifier\.4\.", "head.classifier."),
        *AUX_HEAD,
        *NUMBERED,
    ),
}
