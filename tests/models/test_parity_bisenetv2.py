"""BiSeNetV2 against two public implementations: same weights, same outputs.

The expected logits come from the other projects' own code, run with weights that ``tests/reference_fill.py`` derives
from names and shapes. Limit: 1e-4 of the standard deviation of the expected array; rounding stays below 1.2e-5.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from src.checkpoints.key_maps import convert
from src.models import BiSeNetV2
from tests.reference_fill import checksum, fill, load_keys, make_input, thin

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reference:
    """One public implementation: our settings for it, its rules, its files, and what its arrays are called."""

    config: str
    rules: str
    files: str
    arrays: dict[str, str]  # ours -> theirs
    full_size: bool  # its arrays are at the image's size, else before the last resize
    params: int
    params_without_aux: int


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
        params=5_231_487,
        params_without_aux=3_358_627,
    ),
    Reference(
        config="bisenetv2_mmseg",
        rules="mmseg",
        files="mmseg_bisenetv2",
        arrays={"logits": "logits", "aux_s2": "aux_0", "aux_s3": "aux_1", "aux_s4": "aux_2", "aux_s5_4": "aux_3"},
        full_size=False,
        params=14_804_255,
        params_without_aux=3_358_883,
    ),
]
each_reference = pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: reference.files)


def golden(path: str) -> Path:
    """The small reference files lie beside the tests, the large ones in the shared folder."""
    beside = ROOT / "tests" / "golden" / path
    shared = Path(os.environ.get("SEMSEG_SHARED", ROOT.parent / "shared")) / "reference" / path
    if not beside.exists() and not shared.exists():
        pytest.skip(f"{path} needs the shared reference folder: set SEMSEG_SHARED")
    return beside if beside.exists() else shared


def arguments(reference: Reference) -> dict[str, Any]:
    """Constructor arguments as the configuration file states them, with the 19 classes of Cityscapes."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=[f"model={reference.config}", "data=cityscapes"])
    net = OmegaConf.to_container(config.model.net, resolve=True)
    del net["_target_"]
    return net


def outputs(reference: Reference, **changed: object) -> dict[str, Tensor]:
    """Our outputs with the reference's weights, norms and dropout in evaluation mode, booster heads included."""
    keys = golden(f"keys/{reference.files}.json")
    state = load_keys(keys)
    fill(state)
    assert checksum(state) == json.loads(keys.read_text())["checksum"]
    net = BiSeNetV2(**arguments(reference) | changed)
    rules = importlib.import_module(f"src.checkpoints.{reference.rules}").RULES["BiSeNetV2"]
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    net.load_state_dict(convert(state, rules, shapes), strict=True)
    net.eval()
    net.training = True  # of the net alone, not of its parts: the booster heads run, the norms keep their statistics
    arrays = np.load(golden(f"logits/{reference.files}.npz"))
    image = make_input(int(arrays["height"]), int(arrays["width"]), int(arrays["seed"]))
    with torch.no_grad():
        return net(image) if reference.full_size else net.decode(image)


def deviation(reference: Reference, given: dict[str, Tensor], name: str) -> float:
    """Largest difference over the standard deviation of the expected array."""
    arrays = np.load(golden(f"logits/{reference.files}.npz"))
    theirs = reference.arrays[name]
    got = thin(given[name].numpy(), int(arrays[f"step_{theirs}"]))
    assert got.shape == arrays[theirs].shape
    return float(np.abs(got - arrays[theirs]).max() / arrays[theirs].std())


@each_reference
def test_outputs_equal_the_reference(reference: Reference) -> None:
    given = outputs(reference)
    assert set(given) == set(reference.arrays)
    for name in reference.arrays:
        assert deviation(reference, given, name) < 1e-4, name


@pytest.mark.parametrize("changed", [{"depthwise_relu": False}, {"fusion_relu": False}, {"upsample": None}], ids=str)
@each_reference
def test_comparison_notices_a_changed_detail(reference: Reference, changed: dict[str, object]) -> None:
    if "upsample" in changed:
        changed = {"upsample": "bilinear" if reference.rules == "coincheung" else "nearest"}
    assert deviation(reference, outputs(reference, **changed), "logits") > 1e-2


@each_reference
def test_parameter_counts(reference: Reference) -> None:
    with torch.device("meta"):
        net = BiSeNetV2(**arguments(reference))
    assert sum(p.numel() for p in net.parameters()) == reference.params
    assert sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in net.aux_heads.parameters()) == (
        reference.params_without_aux
    )
