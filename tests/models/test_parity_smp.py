"""The adapter of segmentation_models_pytorch against that package's own outputs."""

from __future__ import annotations

import pytest

from tests.models.parity import Reference, check_equal, check_parameters, deviation, outputs


def reference(arch: str, encoder: str, params: int) -> Reference:
    return Reference(
        config="smp",
        overrides=(f"model.net.arch={arch}", f"model.net.encoder={encoder}"),
        rules="smp",
        files=f"smp_{arch}_{encoder}",
        arrays={"logits": "logits"},
        full_size=True,
        num_classes=19,
        params=params,
    )


REFERENCES = [
    reference("unet", "resnet34", 24_438_979),
    reference("fpn", "resnet34", 23_157_715),
    reference("deeplabv3plus", "resnet101", 45_674_339),
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
        (REFERENCES[0], "+model.net.options.decoder_interpolation=bilinear"),
        (REFERENCES[2], "+model.net.options.decoder_atrous_rates=[12,24,35]"),
    ],
    ids=str,
)
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    assert deviation(reference, outputs(reference, changed), "logits") > 1e-3
