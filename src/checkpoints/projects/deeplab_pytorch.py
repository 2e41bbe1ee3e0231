"""kazuto1011/deeplab-pytorch: rules by net class. The file is the state dict itself."""

from __future__ import annotations

__all__ = ["RULES"]

# Caffe's names of a ResNet: layer1 is the stem, blocks count from 1
TRUNK = (
    (r"\blayer1\.conv1\.conv\.", "backbone.trunk.conv1."),
    (r"\blayer1\.conv1\.bn\.", "backbone.trunk.bn1."),
    *((rf"\blayer{stage}\.block", f"backbone.trunk.layer{stage - 1}.block") for stage in range(2, 6)),
    *((rf"\.block{block}\.", f".{block - 1}.") for block in range(1, 24)),
    *(
        (rf"(trunk\.layer\d\.\d+)\.{name}\.{kind}\.", rf"\1.{kind}{place}.")
        for place, name in enumerate(("reduce", "conv3x3", "increase"), start=1)
        for kind in ("conv", "bn")
    ),
    (r"(trunk\.layer\d\.\d+)\.shortcut\.conv\.", r"\1.downsample.0."),
    (r"(trunk\.layer\d\.\d+)\.shortcut\.bn\.", r"\1.downsample.1."),
)
ASPP_V2 = ((r"\baspp\.c(\d)\.", r"classifiers.\1."),)
# of v3 and v3+, at the root or inside a wrapper
HEAD_V3 = (
    (r"\baspp\.stages\.c0\.", "aspp.point."),
    *((rf"\baspp\.stages\.c{i + 1}\.", f"aspp.atrous.{i}.") for i in range(3)),
    (r"\baspp\.stages\.imagepool\.", "aspp.pooling."),
    (r"^((?:net\.)?)fc1\.", r"\1aspp.project."),
    (r"^((?:net\.)?)reduce\.", r"\1decoder.0.project."),
    *((rf"^((?:net\.)?)fc2\.conv{i + 1}\.", rf"\1decoder.0.refine.{i}.") for i in range(2)),
    (r"^((?:net\.)?)fc2\.(?:conv3\.)?", r"\1head.classifier."),
    (r"\b((?:aspp|decoder)\..*)\.bn\.", r"\1.norm."),
)

RULES = {
    # loads into conf/model/deeplab_v1_kazuto.yaml
    "DeepLabV1": (*TRUNK, (r"^fc\.", "classifier.")),
    # loads into conf/model/deeplab_v2.yaml
    "DeepLabV2": ((r"^base\.", ""), *TRUNK, *ASPP_V2),
    # load into conf/model/deeplab_v2_kazuto.yaml, deeplab_v3_kazuto.yaml and deeplab_v3plus_kazuto.yaml
    "PooledScales": ((r"^base\.", "net."), *TRUNK, *ASPP_V2, *HEAD_V3),
    # the same two for one scale
    "DeepLabV3": ((r"^base\.", ""), *TRUNK, *HEAD_V3),
    "DeepLabV3Plus": ((r"^base\.", ""), *TRUNK, *HEAD_V3),
}
