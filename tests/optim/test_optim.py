"""Schedules at known points, and which parameter gets which rate and decay."""

import pytest
from torch import nn

from src.errors import UserError
from src.optim import constant, param_groups, poly, step, warmup_poly


def test_poly_at_known_points() -> None:
    factor = poly(100, 10, power=0.9)
    assert factor(0) == 1
    assert factor(50) == pytest.approx(0.5**0.9)
    assert factor(100) == 0
    assert poly(100, 10, power=1.0, floor=0.02)(50) == pytest.approx(0.98 * 0.5 + 0.02)
    assert poly(100, 10, floor=0.02)(100) == 0.02
    assert poly(100, 10, power=0)(99) == 1


def test_poly_by_epoch_holds_the_rate_of_each_epoch() -> None:
    """Hierarchical multi-scale attention: lr(e) = lr0 * (1 - e/E)^p."""
    factor = poly(70, 7, power=2.0, every="epoch")
    for epoch in range(10):
        assert [factor(7 * epoch + i) for i in range(7)] == pytest.approx([(1 - epoch / 10) ** 2] * 7)


def test_poly_by_ten_steps_is_that_of_every_tenth() -> None:
    often, seldom = poly(1000, 100), poly(1000, 100, every=10)
    assert all(seldom(i) == often(i // 10 * 10) for i in range(1000))
    assert seldom(9) != often(9)


def test_steps_fall_by_the_factor() -> None:
    factor = step(6000, 529)
    assert [factor(i) for i in (0, 1999, 2000, 3999, 4000)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert step(100, 7, factor=0.5, every="epoch")(21) == 0.125
    assert constant(100, 7)(99) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: poly(100, 10, power=-0.9), r"schedule\.power=-0\.9"),
        (lambda: poly(100, 10, power=float("nan")), r"schedule\.power=nan"),
        (lambda: poly(100, 10, floor=1.5), r"schedule\.floor=1\.5"),
        (lambda: poly(100, 10, every=0), r"schedule\.every=0.*epoch"),
        (lambda: poly(100, 10, every="epochs"), r"schedule\.every=epochs"),
        (lambda: step(100, 10, every=2.5), r"schedule\.every=2\.5"),
        (lambda: step(100, 10, factor=0.0), r"schedule\.factor=0\.0"),
        (lambda: warmup_poly(100, 10, power=-1), r"schedule\.power=-1"),
        (lambda: warmup_poly(100, 10, warmup="cosine"), r"schedule\.warmup=cosine"),
    ],
)
def test_schedules_that_cannot_be_are_refused(make, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize(("kind", "middle"), [("linear", 0.55), ("exponential", 0.1**0.5)])
def test_warmup_rises_then_decays_over_the_rest(kind: str, middle: float) -> None:
    factor = warmup_poly(10_000, 100, warmup_steps=1000, warmup_start=0.1, warmup=kind, power=1.0)
    assert factor(0) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(middle)
    assert factor(1000) == 1
    assert factor(5500) == pytest.approx(0.5)
    assert factor(10_000) == 0


def test_a_short_run_warms_up_for_a_tenth() -> None:
    assert warmup_poly(100, 10, warmup_steps=1000)(10) == 1


def _net() -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "head": nn.Conv2d(4, 2, 1)})


def _told(net: nn.Module, **options) -> dict[str, tuple[int, float, float]]:
    groups = param_groups(net, lr=0.1, weight_decay=5e-4, **options)
    assert sum(len(group["params"]) for group in groups) == len([p for p in net.parameters() if p.requires_grad])
    return {group["name"]: (len(group["params"]), group["lr"], group["weight_decay"]) for group in groups}


def test_norms_and_biases_are_not_decayed_and_parts_have_their_rate() -> None:
    assert _told(_net(), lr_multipliers={"head": 10}) == {
        "net": (1, 0.1, 5e-4),
        "net_no_decay": (3, 0.1, 0.0),
        "head": (1, 1.0, 5e-4),
        "head_no_decay": (1, 1.0, 0.0),
    }


def test_everything_may_be_decayed() -> None:
    assert _told(_net(), decay_on="all") == {"net": (6, 0.1, 5e-4)}


def test_deeplab_v2_trains_new_weights_at_ten_and_new_biases_at_twenty_times_the_rate() -> None:
    """The biases of norms are none of convolutions: they keep the rate of their part."""
    assert _told(_net(), lr_multipliers={"head": 10}, bias_lr_multiplier=2) == {
        "net": (1, 0.1, 5e-4),
        "net_bias_no_decay": (1, 0.2, 0.0),
        "net_no_decay": (2, 0.1, 0.0),
        "head": (1, 1.0, 5e-4),
        "head_bias_no_decay": (1, 2.0, 0.0),
    }


def test_a_part_has_the_same_name_inside_scales() -> None:
    wrapped = nn.ModuleDict({"net": _net()})
    assert _told(wrapped, lr_multipliers={"head": 10}) == _told(_net(), lr_multipliers={"head": 10})
    assert _told(wrapped, lr_multipliers={"net.head": 10})["net.head"] == (1, 1.0, 5e-4)


def test_frozen_parameters_are_in_no_group() -> None:
    net = _net()
    net["body"].requires_grad_(False)
    assert _told(net, decay_on="all") == {"net": (2, 0.1, 5e-4)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_multipliers": {"haed": 10}}, r"'haed'.*Did you mean 'head'"),
        ({"lr_multipliers": {"head": -1}}, r"lr_multipliers\.head=-1"),
        ({"bias_lr_multiplier": -2}, r"bias_lr_multiplier=-2"),
        ({"decay_on": "norms"}, r"decay_on=norms.*kernels or all"),
    ],
)
def test_groups_that_cannot_be_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        param_groups(_net(), lr=0.1, weight_decay=0, **options)
