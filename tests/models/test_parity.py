"""Every net against the public implementations of it: outputs, parameters, and that a changed detail would show."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf

from src.models.hrnet import Exchange
from tests.conftest import ROOT
from tests.models.parity import (
    GOLDEN,
    LIMIT,
    Reference,
    build,
    check_equal,
    deviation,
    filled,
    fused_by_factor,
    load,
    outputs,
)
from tests.reference_fill import checksum, make_input

REFERENCES = [
    Reference(**entry) for entry in OmegaConf.to_object(OmegaConf.load(ROOT / "tests/models/references.yaml"))
]
BY_NAME = {reference.name: reference for reference in REFERENCES}


@pytest.mark.parametrize(
    "reference", [pytest.param(each, marks=pytest.mark.slow if each.slow else ()) for each in REFERENCES], ids=str
)
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


def test_weights_of_the_references_are_made_again() -> None:
    keys = json.loads((GOLDEN / "keys" / "bisenetv1_coincheung.json").read_text())
    assert checksum(filled("bisenetv1_coincheung")) == keys["checksum"]


@pytest.mark.parametrize(
    ("reference", "changed"),
    [
        pytest.param(each, changed, marks=pytest.mark.slow if each.params > 1e7 else ())
        for each in REFERENCES
        for changed in each.notices
    ],
)
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    given = outputs(reference, changed)
    for name in reference.arrays if reference.name == "bisenetv1_coincheung" else ("logits",):
        assert deviation(reference, given, name) > reference.moved, name


def test_caffe_rounds_pooled_sizes_up() -> None:
    reference = BY_NAME["kazuto_deeplabv1_r101"]
    with torch.device("meta"):
        given = build(reference, "model.net.backbone.ceil_pool=false").decode(torch.empty(2, 3, 96, 160))["logits"]
    assert given.shape[-2:] == (12, 20)  # theirs: 13x21


@pytest.mark.slow
def test_ann_with_all_similarities_in_memory() -> None:
    reference = BY_NAME["mmseg_ann_r101d8"]
    assert deviation(reference, outputs(reference, "model.net.attention=naive"), "logits") < LIMIT


@pytest.mark.parametrize("name", ["mmseg_fcn_hr48", pytest.param("mmseg_ocrnet_hr48", marks=pytest.mark.slow)])
def test_mmseg_hrnets_at_a_size_that_32_does_not_divide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden files have multiples of 32, where one resize and two are the same."""
    net, image = load(BY_NAME[name]), make_input(97, 161, seed=1)
    with torch.no_grad():
        given = net.decode(image)
        monkeypatch.setattr(Exchange, "forward", fused_by_factor)
        expected = net.decode(image)
    for key in BY_NAME[name].arrays:
        assert (given[key] - expected[key]).abs().max() < LIMIT * expected[key].std(), key
