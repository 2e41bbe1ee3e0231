"""DeepLab v1 and v2 against kazuto1011/deeplab-pytorch."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs

SCALES = {
    "logits": "logits",
    "aux_scale_100": "aux_scale_100",
    "aux_scale_075": "aux_scale_075",
    "aux_scale_050": "aux_scale_050",
}
V1 = Reference(
    config="deeplab_v1_kazuto",
    rules="deeplab_pytorch",
    files="kazuto_deeplabv1_r101",
    arrays={"logits": "logits"},
    num_classes=91,
    params=42_686_619,
)
V2 = Reference(
    config="deeplab_v2_kazuto",
    rules="deeplab_pytorch",
    files="kazuto_deeplabv2_r101_msc",
    arrays=SCALES,
    num_classes=21,
    params=44_048_532,
)
V2_182 = Reference(
    config="deeplab_v2_kazuto",
    rules="deeplab_pytorch",
    files="kazuto_deeplabv2_r101_msc_182",
    arrays=SCALES,
    num_classes=182,
    params=55_919_384,
)
each_reference = pytest.mark.parametrize("reference", [V1, V2, pytest.param(V2_182, marks=pytest.mark.slow)], ids=str)


@each_reference
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@each_reference
def test_parameter_counts(reference: Reference) -> None:
    check_parameters(reference)


@pytest.mark.parametrize(
    "changed",
    ["net.backbone.stride_on_1x1=false", "net.backbone.contract_dilation=true", "net.backbone.ceil_pool=false"],
)
def test_comparison_notices_a_changed_trunk(changed: str) -> None:
    given = outputs(V1, f"model.{changed}")
    if changed.startswith("net.backbone.ceil_pool"):
        assert given["logits"].shape[-2:] == (12, 20)  # theirs: 13x21
    else:
        assert deviation(V1, given, "logits") > 1e-2


@pytest.mark.parametrize("changed", ["scales.fuse=mean", "net.rates=[6,12,18,25]"])
def test_comparison_notices_changed_scales_and_rates(changed: str) -> None:
    assert deviation(V2, outputs(V2, f"model.{changed}"), "logits") > 1e-2
