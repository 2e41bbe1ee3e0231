"""BiSeNetV1 against its public implementation."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs

COINCHEUNG = Reference(
    config="bisenetv1",
    rules="coincheung",
    files="bisenetv1_coincheung",
    arrays={"logits": "logits", "aux_16": "aux_16", "aux_32": "aux_32"},
    full_size=True,
    num_classes=19,
    params=13_425_721,
)


def test_outputs_equal_the_reference() -> None:
    check_equal(COINCHEUNG)


def test_parameter_counts() -> None:
    check_parameters(COINCHEUNG)


@pytest.mark.parametrize("changed", ["model.net.upsample=bilinear", "+model.net.backbone.ceil_pool=true"])
def test_comparison_notices_a_changed_detail(changed: str) -> None:
    given = outputs(COINCHEUNG, changed)
    assert all(deviation(COINCHEUNG, given, name) > 1e-2 for name in COINCHEUNG.arrays)
