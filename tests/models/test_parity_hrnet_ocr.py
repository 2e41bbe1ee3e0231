"""HRNet-OCR against three public implementations, and hierarchical scale attention against its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.parity import (
    GOLDEN,
    LIMIT,
    Reference,
    check_equal,
    check_parameters,
    deviation,
    load,
    outputs,
)
from tests.reference_fill import make_input

REFERENCES = [
    Reference(
        config="hrnet_ocr",
        rules="nvidia",
        files="nvidia_hrnet_ocrnet",
        arrays={"logits": "logits", "aux_regions": "aux_ocr"},
        full_size=True,
        num_classes=19,
        params=70_372_678,
    ),
    Reference(
        config="hrnet_ocr_hrnet",
        rules="hrnet",
        files="hrnet_w48_ocr",
        arrays={"logits": "logits", "aux_regions": "aux_ocr"},
        num_classes=19,
        params=70_372_678,
    ),
    Reference(
        config="hrnet_ocr_mmseg",
        rules="mmseg",
        files="mmseg_ocrnet_hr48",
        arrays={"logits": "logits", "aux_regions": "aux_decode_0"},
        num_classes=19,
        params=70_371_446,
    ),
]


SCALES = [
    Reference(
        config="hrnet_ocr_hierarchical",
        rules="nvidia",
        files=f"nvidia_hrnet_mscale__{stage}",
        keys="nvidia_hrnet_mscale",
        arrays=arrays,
        num_classes=19,
        params=72_143_430,
        overrides=(f"model.scales.{option}",),
    )
    for stage, option, arrays in (
        ("single", "scales=[1.0]", {"logits": "logits", "aux_regions": "aux_ocr", "attention at 1": "attn"}),
        (
            "two_scale",
            "supervise=true",
            {
                "logits": "logits",
                "aux_regions": "aux_joint",
                "logits at 0.5": "pred_05x",
                "aux_scale_100": "pred_10x",
                "attention at 0.5": "attn_05x",
            },
        ),
        (
            "three_scale",
            "scales=[0.5,1,2]",
            {
                "logits": "logits",
                "aux_regions": "aux_joint",
                "logits at 2": "pred_20x",
                "attention at 0.5": "attn_05x",
                "attention at 1": "attn_10x",
            },
        ),
    )
]
each_reference = pytest.mark.parametrize("reference", REFERENCES, ids=str)


def scale_outputs(reference: Reference, *overrides: str) -> dict[str, Tensor]:
    """What the net gives, auxiliary heads included, and what each scale gives alone."""
    net = load(reference, *overrides)
    net.training = "supervise=true" in reference.overrides[0]  # else the scales of evaluation
    arrays = np.load(GOLDEN / "logits" / f"{reference.files}.npz")
    image = make_input(int(arrays["height"]), int(arrays["width"]), int(arrays["seed"]))
    with torch.no_grad():
        given = net.decode(image)
        for scale in {0.5, *net.scales}:
            given |= {f"{name} at {scale:g}": each for name, each in net.at_scale(image, scale).items()}
    return given


@each_reference
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@pytest.mark.parametrize("reference", SCALES, ids=str)
def test_fused_outputs_and_those_of_each_scale_equal_the_reference(reference: Reference) -> None:
    given = scale_outputs(reference)
    stored = np.load(GOLDEN / "logits" / f"{reference.files}.npz").files
    assert {f"step_{theirs}" for theirs in reference.arrays.values()} == {s for s in stored if s.startswith("step_")}
    for name in reference.arrays:
        assert deviation(reference, given, name) < LIMIT, name


@pytest.mark.parametrize("reference", [*REFERENCES, SCALES[0]], ids=str)
def test_parameter_counts(reference: Reference) -> None:
    check_parameters(reference)


@pytest.mark.parametrize("changed", ["net.align_corners={}", "net.region_scale=1.1"])
@each_reference
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    changed = changed.format(reference.config != "hrnet_ocr_hrnet")
    assert deviation(reference, outputs(reference, f"model.{changed}"), "logits") > 1e-2


def test_comparison_notices_another_scale() -> None:
    assert deviation(SCALES[1], scale_outputs(SCALES[1], "model.scales.low_scale=0.6"), "logits") > 1e-2
