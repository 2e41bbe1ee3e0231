"""Comparison with other implementations: their weights in our nets must give their outputs.

The expected arrays come from the other projects' own code, run with weights that ``tests/reference_fill.py`` derives
from names and shapes. Limit: 1e-4 of the standard deviation of the expected array; rounding stays below 3e-5.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from src.build.from_config import build_net
from src.checkpoints.rename_rules import convert
from src.models.hrnet import Exchange
from src.models.net import Net
from tests.conftest import ROOT
from tests.reference_fill import fill, load_keys, make_input, thin

GOLDEN = ROOT / "tests" / "golden"
LIMIT = 1e-4


@dataclass(frozen=True)
class Reference:
    """One public implementation, as ``references.yaml`` describes it."""

    name: str
    config: str
    rules: str
    arrays: Mapping[str, str]
    num_classes: int
    params: int
    full_size: bool = False
    keys: str = ""
    overrides: Sequence[str] = ()
    notices: Sequence[str] = ()
    moved: float = 1e-2
    slow: bool = False

    def __str__(self) -> str:
        return self.name


def build(reference: Reference, *overrides: str) -> nn.Module:
    """The net of the config, on the meta device."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        chosen = [f"model={reference.config}", f"data.num_classes={reference.num_classes}", *reference.overrides]
        cfg = compose("train", overrides=[*chosen, *overrides])
    with torch.device("meta"):
        return build_net(cfg)


@functools.lru_cache(maxsize=1)  # what follows often is another detail of the same net
def filled(keys: str) -> dict[str, Tensor]:
    """The weights that a reference ran with."""
    state = load_keys(GOLDEN / "keys" / f"{keys}.json")
    fill(state)
    return state


def load(reference: Reference, *overrides: str) -> nn.Module:
    """The net with the reference's weights, strictly; norms and dropout in evaluation mode, auxiliary heads running.

    Without overrides its parameters are as many as the reference's.
    """
    state = filled(reference.keys or reference.name)
    net = build(reference, *overrides)
    assert overrides or sum(p.numel() for p in net.parameters()) == reference.params
    rules = importlib.import_module(f"src.checkpoints.projects.{reference.rules}").RULES[type(net).__name__]
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    net.load_state_dict(convert(state, rules, shapes), strict=True, assign=True)
    net.eval()
    for part in net.modules():
        if isinstance(part, Net):
            part.training = True  # of the nets alone, not of their parts
    return net


def outputs(reference: Reference, *overrides: str) -> dict[str, Tensor]:
    """Our outputs for the reference's image."""
    arrays = np.load(GOLDEN / "logits" / f"{reference.name}.npz")
    image = make_input(int(arrays["height"]), int(arrays["width"]), int(arrays["seed"]))
    net = load(reference, *overrides)
    with torch.no_grad():
        return net(image) if reference.full_size else net.decode(image)


def deviation(reference: Reference, given: Mapping[str, Tensor], name: str) -> float:
    """Largest difference over the standard deviation of the expected array."""
    arrays = np.load(GOLDEN / "logits" / f"{reference.name}.npz")
    theirs = reference.arrays[name]
    got = thin(given[name].numpy(), int(arrays[f"step_{theirs}"]))
    assert got.shape == arrays[theirs].shape
    return float(np.abs(got - arrays[theirs]).max() / arrays[theirs].std())


def check_equal(reference: Reference) -> None:
    """Every array of the reference is reproduced, none is left out on either side, and parameters are as many."""
    given = outputs(reference)
    assert set(given) - {"features"} == set(reference.arrays)
    stored = np.load(GOLDEN / "logits" / f"{reference.name}.npz").files
    assert {f"step_{theirs}" for theirs in reference.arrays.values()} == {s for s in stored if s.startswith("step_")}
    for name in reference.arrays:
        assert deviation(reference, given, name) < LIMIT, name


def fused_by_factor(module: Exchange, *branches: Tensor, align_corners: bool = False) -> list[Tensor]:
    """mmsegmentation's fusion in an HRNet, written down once more: a coarser branch is first upsampled by the factor
    between the strides, then resized to the finer branch.
    """
    maps = [blocks(x) for blocks, x in zip(module.branches, branches, strict=True)]
    bilinear = {"mode": "bilinear", "align_corners": align_corners}
    fused = []
    for i, fine in enumerate(maps):
        total = fine
        for j in range(len(maps)):
            layers = module.fuse_layers[i][j]
            if j < i:
                total = total + layers(maps[j])
            elif j > i:
                conv, norm = layers[:2]
                large = F.interpolate(norm(conv(maps[j])), scale_factor=2 ** (j - i), **bilinear)
                total = total + F.interpolate(large, size=fine.shape[2:], **bilinear)
        fused.append(total.relu())
    return fused
