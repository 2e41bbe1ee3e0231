"""Renaming checkpoints: strict, complete, invertible."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from src.checkpoints.rename_rules import Rules, convert, rename, revert
from src.errors import UserError
from tests.reference_fill import load_keys

KEYS = Path(__file__).parents[1] / "golden" / "keys"
RULES = [(r"^old\.", "new."), (r"\.bn\.", ".norm.")]
each_layout = pytest.mark.parametrize(
    ("project", "net", "keys"),
    [("coincheung", "BiSeNetV2", "bisenetv2_coincheung"), ("mmseg", "BiSeNetV2", "mmseg_bisenetv2")],
)


def rules_of(project: str, net: str) -> Rules:
    return importlib.import_module(f"src.checkpoints.projects.{project}").RULES[net]


def test_rules_apply_in_order() -> None:
    assert rename("a.b", [("a", "b"), ("b", "c")]) == "c.c"


def test_convert_renames_without_copying_and_keeps_the_nets_order() -> None:
    state = {"old.bn.weight": torch.ones(2), "old.conv.weight": torch.ones(3)}
    result = convert(state, RULES, {"new.conv.weight": (3,), "new.norm.weight": (2,)})
    assert list(result) == ["new.conv.weight", "new.norm.weight"]
    assert result["new.norm.weight"] is state["old.bn.weight"]


@pytest.mark.parametrize(
    ("state", "shapes", "words"),
    [
        ({}, {"new.a": (1,)}, "1 missing: new.a"),
        ({"old.a": 1, "x": 1}, {"new.a": (1,)}, "1 unexpected: x"),
        ({"old.a": 1, "new.a": 1}, {"new.a": (1,)}, "1 doubled: old.a and new.a for new.a"),
        ({"old.a": 2}, {"new.a": (1,)}, "1 of another shape: old.a (2,) for new.a (1,)"),
        ({}, {f"new.{i}": (1,) for i in range(5)}, "5 missing: new.0, new.1, new.2, ..."),
    ],
)
def test_a_misfit_is_reported(state: dict[str, int], shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(UserError) as caught:
        convert({name: torch.ones(size) for name, size in state.items()}, RULES, shapes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_revert_refuses_another_layout() -> None:
    with pytest.raises(UserError, match=r"new\.b"):
        revert({"new.a": torch.ones(1)}, RULES, ["old.a", "old.b"])
    with pytest.raises(UserError):
        revert({"new.a": torch.ones(1)}, RULES, ["old.a", "new.a"])


@each_layout
def test_layouts_convert_there_and_back(project: str, net: str, keys: str) -> None:
    rules, state = rules_of(project, net), load_keys(KEYS / f"{keys}.json")
    ours = convert(state, rules, {rename(name, rules): tensor.shape for name, tensor in state.items()})
    assert len(ours) == len(state)
    back = revert(ours, rules, state)
    assert list(back) == list(state)
    assert all(back[name] is state[name] for name in state)


@each_layout
def test_every_rule_of_a_layout_is_needed(project: str, net: str, keys: str) -> None:
    rules, names = rules_of(project, net), list(load_keys(KEYS / f"{keys}.json"))
    for i, (pattern, _) in enumerate(rules):
        assert any(re.search(pattern, rename(name, rules[:i])) for name in names), pattern
