"""Searches: suggestions, conditions, pruning, and going on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.errors import UserError
from src.sweeps import Trial, parse, results
from src.sweeps.scheduler import Search
from tests.sweeps.drive import drive

pytest.importorskip("optuna")

SPACE = {
    "kind": {"choices": ["a", "b"]},
    "value": {"low": 0.0, "high": 0.9},
    "depth": {"low": 1, "high": 4, "when": {"kind": "b"}},
}
OPTIONS = {"trials": 8, "sampler": "tpe", "seed": 0, "startup": 2, "pruner": "median", "warmup": 0, "space": SPACE}


def search(seeds: tuple[int, ...] = (0,), **changes: Any) -> Any:
    options = {**OPTIONS, **changes}
    return parse(
        {"objective": "val/miou", "direction": "maximize", "devices": 1, "seeds": list(seeds), "search": options}
    )


class Book:
    """A journal in memory, and what a plan is told."""

    def __init__(self) -> None:
        self.suggested: list[dict[str, Any]] = []
        self.ended: dict[str, dict[str, Any]] = {}

    def plan(self, spec: Any) -> Search:
        return Search(spec, list(self.suggested), self.ended, note=lambda **record: self.suggested.append(record))

    def end(self, plan: Search, trial: Trial, value: float, status: str = "done") -> None:
        self.ended[trial.id] = {"status": status, "value": value, "curve": [[1, value / 2], [2, value]]}
        plan.ended(trial, self.ended[trial.id])


def test_an_option_exists_only_where_its_condition_holds() -> None:
    book = Book()
    plan = book.plan(search(trials=12))
    while trial := plan.next():
        book.end(plan, trial, 0.5)
    assert len(book.suggested) == 12
    for record in book.suggested:
        assert ("depth" in record["params"]) == (record["params"]["kind"] == "b")
    assert {record["params"]["kind"] for record in book.suggested} == {"a", "b"}


def test_a_search_goes_on_with_what_was_in_flight_and_what_it_has_learnt() -> None:
    book, spec = Book(), search()
    plan = book.plan(spec)
    first, second, third = plan.next(), plan.next(), plan.next()
    book.end(plan, second, 0.7)
    asked = [dict(record["params"]) for record in book.suggested]

    again = book.plan(spec)  # the driver was killed
    assert [again.next(), again.next()] == [first, third]
    assert [record["params"] for record in book.suggested] == asked  # asked once, not twice
    while trial := again.next():
        book.end(again, trial, 0.1)
    assert len(book.suggested) == 8
    params = [tuple(sorted(record["params"].items())) for record in book.suggested]
    assert len(set(params)) == 8


def test_further_seeds_wait_for_the_first_and_the_mean_counts() -> None:
    book, spec = Book(), search(seeds=(3, 4), trials=1)
    plan = book.plan(spec)
    first = plan.next()
    assert (first.seed, plan.next()) == (3, None)
    book.end(plan, first, 0.2)
    second = plan.next()
    assert second.seed == 4
    book.end(plan, second, 0.4)
    assert plan._study.trials[0].value == pytest.approx(0.3)


def test_a_trial_below_the_median_should_be_pruned() -> None:
    book = Book()
    plan = book.plan(search())
    for _ in range(3):
        trial = plan.next()
        plan.should_prune(trial, [(10, 0.5)])
        book.end(plan, trial, 0.6)
    assert not plan.should_prune(plan.next(), [(10, 0.55)])
    assert plan.should_prune(plan.next(), [(10, 0.1)])


def test_a_search_runs_prunes_and_ranks(tmp_path: Path) -> None:
    space = {"value": {"low": 0.0, "high": 0.9}, "pause": {"choices": [0.15]}}
    spec = search(trials=6, space=space)
    drive(spec, tmp_path, jobs=1)
    found = results(spec, tmp_path)
    means = [result.mean for result in found if result.mean is not None]
    assert means == sorted(means, reverse=True)
    assert sum(result.states.get("done", 0) + result.states.get("pruned", 0) for result in found) == 6
    assert any(result.states.get("pruned") for result in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"value": {"low": 1}}}, r"sweep\.search\.space: value: .*give choices, or low and high"),
        ({"sampler": "grid"}, r"sweep\.search\.sampler=grid is unknown; use one of: tpe, random"),
    ],
)
def test_what_no_search_can_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Book().plan(search(**changes))
