"""BiSeNetV2 against two public implementations."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs

REFERENCES = [
    Reference(
        config="bisenetv2_coincheung",
        rules="coincheung",
        files="bisenetv2_coincheung",
        arrays={
            "logits": "logits",
            "aux_s2": "aux_2",
            "aux_s3": "aux_3",
            "aux_s4": "aux_4",
            "aux_s5_4": "aux_5_4",
        },
        full_size=True,
        num_classes=19,
        params=5_231_487,
    ),
    Reference(
        config="bisenetv2_mmseg",
        rules="mmseg",
        files="mmseg_bisenetv2",
        arrays={"logits": "logits", "aux_s2": "aux_0", "aux_s3": "aux_1", "aux_s4": "aux_2", "aux_s5_4": "aux_3"},
        num_classes=19,
        params=14_804_255,
    ),
]
each_reference = pytest.mark.parametrize("reference", REFERENCES, ids=str)


@each_reference
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@each_reference
def test_parameter_counts(reference: Reference) -> None:
    check_parameters(reference)


@pytest.mark.parametrize(
    "changed", ["depthwise_relu=false", "fusion_relu=false", "upsample={coincheung: bilinear, mmseg: nearest}"]
)
@each_reference
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    if changed.startswith("upsample"):
        changed = f"upsample={'bilinear' if reference.rules == 'coincheung' else 'nearest'}"
    assert deviation(reference, outputs(reference, f"model.net.{changed}"), "logits") > 1e-2
