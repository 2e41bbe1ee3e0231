"""Hierarchical scale attention around HRNet-OCR against the authors' code, at one, two and three scales."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from src.inference import Inference
from tests.models.parity import (
    GOLDEN,
    LIMIT,
    Reference,
    deviation,
    load,
)
from tests.reference_fill import make_input

SCALES = [
    Reference(
        config="hrnet_ocr_hierarchical",
        rules="nvidia",
        name=f"nvidia_hrnet_mscale__{stage}",
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


def scale_outputs(reference: Reference, *overrides: str) -> dict[str, Tensor]:
    """What the net gives, auxiliary heads included, and what each scale gives alone."""
    net = load(reference, *overrides)
    net.training = "supervise=true" in reference.overrides[0]  # else the scales of evaluation
    arrays = np.load(GOLDEN / "logits" / f"{reference.name}.npz")
    image = make_input(int(arrays["height"]), int(arrays["width"]), int(arrays["seed"]))
    with torch.no_grad():
        given = net.decode(image)
        for scale in {0.5, *net.scales}:
            given |= {f"{name} at {scale:g}": each for name, each in net.at_scale(image, scale).items()}
        given["scores"] = Inference(multiple=1)(net.eval(), image)
    return given


@pytest.mark.parametrize(
    "reference", [*(pytest.param(each, marks=pytest.mark.slow) for each in SCALES[:2]), SCALES[2]], ids=str
)
def test_fused_outputs_and_those_of_each_scale_equal_the_reference(reference: Reference) -> None:
    given = scale_outputs(reference)
    stored = np.load(GOLDEN / "logits" / f"{reference.name}.npz").files
    assert {f"step_{theirs}" for theirs in reference.arrays.values()} == {s for s in stored if s.startswith("step_")}
    for name in reference.arrays:
        assert deviation(reference, given, name) < LIMIT, name
    assert deviation(replace(reference, arrays={"scores": "logits"}), given, "scores") < LIMIT, "through the engine"


@pytest.mark.slow
def test_comparison_notices_another_scale() -> None:
    assert deviation(SCALES[1], scale_outputs(SCALES[1], "model.scales.low_scale=0.6"), "logits") > 1e-2
