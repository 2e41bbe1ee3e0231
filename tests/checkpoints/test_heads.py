"""Which tensors count the classes, and rows that move between nets of different classes."""

from __future__ import annotations

import torch
from torch import nn

from src.checkpoints.class_rows import carry_over, class_axes, count_classes, same_classes, take_classes


def _net(classes: int) -> dict[str, torch.Tensor]:
    """A classifier, upsampling from classes to classes, and a layer that happens to be as wide as there are classes."""
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, classes, 1), nn.ConvTranspose2d(classes, classes, 4))
    return net.state_dict()


AXES = class_axes(_net(5), _net(6))


def test_what_grows_with_the_classes_counts_them() -> None:
    assert AXES == {"1.weight": (0,), "1.bias": (0,), "2.weight": (0, 1), "2.bias": (0,)}
    assert count_classes(_net(7), AXES) == 7
    assert count_classes({**_net(7), "1.bias": torch.zeros(8)}, AXES) is None
    assert count_classes({"0.weight": torch.zeros(5)}, AXES) is None


def test_classes_are_taken_along_every_axis() -> None:
    state = _net(5)
    taken = take_classes(state, AXES, [4, 0])
    assert torch.equal(taken["1.weight"], state["1.weight"][[4, 0]])
    assert torch.equal(taken["2.weight"], state["2.weight"][[4, 0]][:, [4, 0]])
    assert taken["0.weight"] is state["0.weight"]


def test_names_match_whatever_their_spelling() -> None:
    assert same_classes(["Traffic Light", "car", "CAR"], ["bus", "traffic_light", "car"]) == [(0, 1), (1, 2)]
    assert same_classes(["a"], ["b"]) == []


def test_carried_rows_land_beside_rows_that_stay() -> None:
    given, own = _net(3), _net(5)
    carried = carry_over(given, own, AXES, [(0, 4), (2, 1)])
    assert torch.equal(carried["1.bias"][[4, 1]], given["1.bias"][[0, 2]])
    assert torch.equal(carried["1.bias"][[0, 2, 3]], own["1.bias"][[0, 2, 3]])
    for theirs, mine in ((0, 4), (2, 1)):
        assert torch.equal(carried["2.weight"][mine, 4], given["2.weight"][theirs, 0])
        assert torch.equal(carried["2.weight"][mine, 0], own["2.weight"][mine, 0])
    assert carried["0.weight"] is given["0.weight"]


def test_nothing_is_carried_without_a_common_name_or_into_another_width() -> None:
    given, own = _net(3), _net(5)
    assert torch.equal(carry_over(given, own, AXES, [])["1.weight"], own["1.weight"])
    given["1.weight"] = torch.zeros(3, 9, 1, 1)
    assert carry_over(given, own, AXES, [(0, 0)])["1.weight"] is given["1.weight"]
