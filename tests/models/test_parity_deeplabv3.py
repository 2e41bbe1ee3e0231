"""DeepLab v3 and v3+ against the public implementations."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs

LOGITS = {"logits": "logits"}
WITH_AUX = {"logits": "logits", "aux_stage4": "aux_0"}
TORCHVISION = Reference(
    config="deeplab_v3_torchvision",
    rules="torchvision",
    files="torchvision_deeplabv3_resnet101",
    arrays=WITH_AUX,
    full_size=True,
    num_classes=21,
    params=60_996_202,
)
TORCHVISION_50 = Reference(
    config="deeplab_v3_torchvision",
    rules="torchvision",
    files="torchvision_deeplabv3_resnet50",
    arrays=WITH_AUX,
    full_size=True,
    num_classes=21,
    params=42_004_074,
    overrides=("model.net.backbone.name=resnet50",),
)
MMSEG = Reference(
    config="deeplab_v3_mmseg",
    rules="mmseg",
    files="mmseg_deeplabv3_r101d8",
    arrays=WITH_AUX,
    num_classes=19,
    params=87_105_158,
)
VAINF = Reference(
    config="deeplab_v3_vainf",
    rules="vainf",
    files="vainf_deeplabv3_resnet101",
    arrays=LOGITS,
    full_size=True,
    num_classes=21,
    params=58_630_997,
)
MMSEG_PLUS = Reference(
    config="deeplab_v3plus_mmseg",
    rules="mmseg",
    files="mmseg_deeplabv3plus_r101d8",
    arrays=WITH_AUX,
    num_classes=19,
    params=62_582_006,
)
VAINF_PLUS = Reference(
    config="deeplab_v3plus_vainf",
    rules="vainf",
    files="vainf_deeplabv3plus_resnet101",
    arrays=LOGITS,
    full_size=True,
    num_classes=19,
    params=58_753_459,
)
VAINF_MOBILENET = Reference(
    config="deeplab_v3plus_vainf_mobilenet",
    rules="vainf",
    files="vainf_deeplabv3plus_mobilenet",
    arrays=LOGITS,
    full_size=True,
    num_classes=19,
    params=5_225_203,
)
SCALES = {"logits": "logits"} | {name: name for name in ("aux_scale_100", "aux_scale_075", "aux_scale_050")}
KAZUTO = Reference(
    config="deeplab_v3_kazuto",
    rules="deeplab_pytorch",
    files="kazuto_deeplabv3_r101_msc",
    arrays=SCALES,
    num_classes=21,
    params=58_040_661,
)
KAZUTO_PLUS = Reference(
    config="deeplab_v3plus_kazuto",
    rules="deeplab_pytorch",
    files="kazuto_deeplabv3plus_r101_msc",
    arrays=SCALES,
    num_classes=21,
    params=59_344_309,
)
REFERENCES = [
    TORCHVISION,
    pytest.param(TORCHVISION_50, marks=pytest.mark.slow),
    MMSEG,
    VAINF,
    MMSEG_PLUS,
    VAINF_PLUS,
    VAINF_MOBILENET,
    KAZUTO,
    KAZUTO_PLUS,
]
each_reference = pytest.mark.parametrize("reference", REFERENCES, ids=str)


@each_reference
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@each_reference
def test_parameter_counts(reference: Reference) -> None:
    check_parameters(reference)


@pytest.mark.parametrize(
    ("reference", "changed"),
    [
        (VAINF_MOBILENET, "backbone.pad_block_inputs=false"),
        (VAINF_MOBILENET, "aspp_rates=[6,12,17]"),
        (VAINF_MOBILENET, "align_corners=true"),
        (MMSEG_PLUS, "image_pooling=last"),
        (VAINF, "backbone.multi_grid=[1,2,4]"),
    ],
    ids=str,
)
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    assert deviation(reference, outputs(reference, f"model.net.{changed}"), "logits") > 1e-3
