"""Pairs kept as bytes are the pairs that were given."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from src.data.source import Pair, Pairs

GIVEN = [
    Pair(Path("/a/x y.jpg"), Path("b/ü\n.png"), "x y"),
    Pair(Path("rel.png"), None, "train/0"),
    Pair(Path(os.fsdecode(b"/no-utf8/\xff.png")), Path("l.png"), "ü", Path("l_prob.png")),
]


@pytest.mark.parametrize("given", [GIVEN, GIVEN[:1], []])
def test_what_goes_in_comes_out(given: list[Pair]) -> None:
    kept = pickle.loads(pickle.dumps(Pairs(given)))
    assert list(kept) == given
    assert kept[:2] == given[:2]
    assert kept[::-1] == given[::-1]
    assert list(Pairs(kept)) == given


def test_indices_are_those_of_a_list() -> None:
    assert Pairs(GIVEN)[-1] == GIVEN[-1]
    with pytest.raises(IndexError):
        Pairs(GIVEN)[3]
