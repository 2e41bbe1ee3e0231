"""Schedules at known points, and which parameter gets which rate and decay."""

import pytest
from torch import nn

from src.errors import UserError
from src.optim import param_groups, poly, warmup_poly


def test_poly_at_known_points() -> None:
    factor = poly(100, power=0.9)
    assert factor(0) == 1
    assert factor(50) == pytest.approx(0.5**0.9)
    assert factor(100) == 0
    assert poly(100, floor=0.02)(99) == 0.02


@pytest.mark.parametrize(("kind", "middle"), [("linear", 0.55), ("exponential", 0.1**0.5)])
def test_warmup_rises_then_decays_over_the_rest(kind: str, middle: float) -> None:
    factor = warmup_poly(10_000, warmup_steps=1000, warmup_start=0.1, warmup=kind, power=1.0)
    assert factor(0) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(middle)
    assert factor(1000) == 1
    assert factor(5500) == pytest.approx(0.5)
    assert factor(10_000) == 0


def test_a_short_run_warms_up_for_a_tenth() -> None:
    assert warmup_poly(100, warmup_steps=1000)(10) == 1


def _net() -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "head": nn.Conv2d(4, 2, 1)})


def test_norms_and_biases_are_not_decayed_and_parts_have_their_rate() -> None:
    groups = {
        group["name"]: group for group in param_groups(_net(), lr=0.1, weight_decay=5e-4, lr_multipliers={"head": 10})
    }
    assert {name: (len(g["params"]), g["lr"], g["weight_decay"]) for name, g in groups.items()} == {
        "net": (1, 0.1, 5e-4),
        "net_no_decay": (3, 0.1, 0.0),
        "head": (1, 1.0, 5e-4),
        "head_no_decay": (1, 1.0, 0.0),
    }


def test_a_multiplier_for_no_part_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"'haed'.*Did you mean 'head'"):
        param_groups(_net(), lr=0.1, weight_decay=0, lr_multipliers={"haed": 10})
