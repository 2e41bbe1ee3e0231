"""ANN against the authors' code and mmsegmentation."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs

AUTHORS = Reference(
    config="ann",
    rules="ann",
    files="ann_r101_mendelxu",
    arrays={"logits": "logits", "aux_stage4": "aux_dsn"},
    full_size=True,
    num_classes=19,
    params=67_694_310,
)
MMSEG = Reference(
    config="ann_mmseg",
    rules="mmseg",
    files="mmseg_ann_r101d8",
    arrays={"logits": "logits", "aux_stage4": "aux_0"},
    num_classes=19,
    params=65_220_742,
)
MMSEG_R50 = Reference(
    config="ann_mmseg",
    rules="mmseg",
    files="mmseg_ann_r50d8",
    arrays={"logits": "logits", "aux_stage4": "aux_0"},
    num_classes=19,
    params=46_228_614,
    overrides=("model.net.backbone.name=resnet50c",),
)


@pytest.mark.parametrize("reference", [AUTHORS, MMSEG, pytest.param(MMSEG_R50, marks=pytest.mark.slow)], ids=str)
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@pytest.mark.parametrize("reference", [AUTHORS, MMSEG, MMSEG_R50], ids=str)
def test_parameter_counts(reference: Reference) -> None:
    check_parameters(reference)


def test_outputs_equal_the_reference_with_all_similarities_in_memory() -> None:
    assert deviation(MMSEG, outputs(MMSEG, "model.net.attention=naive"), "logits") < 1e-4


@pytest.mark.parametrize(
    "changed", ["sizes=[1,2,3,6]", "weights=rescale", "backbone.ceil_pool=false", "align_corners=false"]
)
def test_comparison_notices_a_changed_detail(changed: str) -> None:
    assert deviation(AUTHORS, outputs(AUTHORS, f"model.net.{changed}"), "logits") > 1e-2
