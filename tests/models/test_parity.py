"""Every net against the public implementations of it: outputs, parameters, and that a changed detail would show."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from src.models.hrnet import Exchange
from tests.conftest import ROOT
from tests.models.parity import LIMIT, Reference, build, check_equal, deviation, fused_by_factor, load, outputs
from tests.reference_fill import make_input

REFERENCES = [
    Reference(**entry) for entry in OmegaConf.to_object(OmegaConf.load(ROOT / "tests/models/references.yaml"))
]
BY_NAME = {reference.name: reference for reference in REFERENCES}


@pytest.mark.parametrize(
    "reference", [pytest.param(each, marks=pytest.mark.slow if each.slow else ()) for each in REFERENCES], ids=str
)
def test_outputs_equal_the_reference(reference: Reference) -> None:
    check_equal(reference)


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_parameter_counts(reference: Reference) -> None:
    assert sum(p.numel() for p in build(reference).parameters()) == reference.params


@pytest.mark.parametrize(("reference", "changed"), [(each, changed) for each in REFERENCES for changed in each.notices])
def test_comparison_notices_a_changed_detail(reference: Reference, changed: str) -> None:
    assert deviation(reference, outputs(reference, changed), "logits") > reference.moved


@pytest.mark.parametrize("changed", BY_NAME["bisenetv1_coincheung"].notices)
def test_comparison_of_auxiliary_heads_notices_a_changed_detail(changed: str) -> None:
    reference = BY_NAME["bisenetv1_coincheung"]
    given = outputs(reference, changed)
    assert all(deviation(reference, given, name) > reference.moved for name in reference.arrays)


def test_caffe_rounds_pooled_sizes_up() -> None:
    reference = BY_NAME["kazuto_deeplabv1_r101"]
    given = outputs(reference, "model.net.backbone.ceil_pool=false")["logits"]
    assert given.shape[-2:] == (12, 20)  # theirs: 13x21


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
