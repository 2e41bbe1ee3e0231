"""Fully convolutional nets on ResNet and HRNet, PSPNet and the non-local net against public implementations."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs

MAIN = {"logits": "logits"}
BOTH = {"logits": "logits", "aux_stage4": "aux_0"}
FCN = Reference(
    config="fcn_torchvision",
    rules="torchvision",
    files="torchvision_fcn_resnet101",
    arrays=BOTH,
    full_size=True,
    num_classes=21,
    params=54_314_346,
)
FCN_R50 = Reference(
    config="fcn_torchvision",
    rules="torchvision",
    files="torchvision_fcn_resnet50",
    arrays=BOTH,
    full_size=True,
    num_classes=21,
    params=35_322_218,
    overrides=("model.net.backbone.name=resnet50",),
)
FCN_MMSEG = Reference(
    config="fcn_mmseg",
    rules="mmseg",
    files="mmseg_fcn_r101d8",
    arrays=BOTH,
    num_classes=19,
    params=68_489_862,
)
HRNET = Reference(
    config="fcn_hrnet_w48", rules="hrnet", files="hrnet_w48", arrays=MAIN, num_classes=19, params=65_859_379
)
HRNET_MMSEG = Reference(
    config="fcn_hrnet_w48_mmseg", rules="mmseg", files="mmseg_fcn_hr48", arrays=MAIN, num_classes=19, params=65_858_659
)
PSPNET = Reference(
    config="pspnet_mmseg", rules="mmseg", files="mmseg_pspnet_r101d8", arrays=BOTH, num_classes=19, params=67_967_622
)
NONLOCAL = Reference(
    config="nonlocal_mmseg",
    rules="mmseg",
    files="mmseg_nonlocal_r101d8",
    arrays=BOTH,
    num_classes=19,
    params=69_015_942,
)
each_reference = pytest.mark.parametrize(
    "reference",
    [FCN, pytest.param(FCN_R50, marks=pytest.mark.slow), FCN_MMSEG, HRNET, HRNET_MMSEG, PSPNET, NONLOCAL],
    ids=str,
)


@each_reference
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@each_reference
def test_parameter_counts(reference: Reference) -> None:
    check_parameters(reference)


@pytest.mark.parametrize(
    ("reference", "changed"),
    [
        (HRNET, "align_corners=true"),
        (PSPNET, "pool_sizes=[6,3,2,1]"),
        (PSPNET, "backbone.contract_dilation=false"),
        (NONLOCAL, "scale=false"),
        (NONLOCAL, "form=dot_product"),
        pytest.param(FCN, "backbone.contract_dilation=false", marks=pytest.mark.slow),
        pytest.param(HRNET, "backbone.align_corners=true", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    assert deviation(reference, outputs(reference, f"++model.net.{changed}"), "logits") > 1e-2
