"""The table a sweep ends in, also before its end."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from src.errors import UserError
from src.sweeps import Cost, Costs, Result, Row, parse, plots, results
from src.sweeps.plots import draw
from src.sweeps.report import page, tell_apart, text
from tests.sweeps.drive import drive, sweep

TRIALS = [
    {"name": "sum", "set": ["value=0.2"], "published": 68.6},
    {"name": "BGA <b>", "set": ["value=0.5"], "published": 69.67, "note": "Table 2"},
    {"name": "broken", "set": ["fail=true"]},
]


def rows(written: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in lines}


def test_rows_that_are_named_run_alone_and_keep_their_places() -> None:
    every, some = sweep(TRIALS), sweep(TRIALS, only=["BGA <b>", "broken"])
    assert some.rows == every.rows[1:]
    assert [trial.id for trial in some.trials(some.rows[0])] == ["01_BGA-b_seed0"]
    grid = {"value": [0.1, 0.2]}
    assert [row.index for row in sweep([], grid=grid, only="value=0.2").rows] == [1]
    with pytest.raises(UserError, match=r"sweep\.only=brokn: .*Did you mean 'broken'\?.*Rows: sum; BGA <b>; broken"):
        sweep(TRIALS, only=["brokn"])
    with pytest.raises(UserError, match=r"sweep\.only=\['x'\].*search"):
        sweep([], only=["x"], search={"trials": 1, "space": {"value": {"low": 0, "high": 1}}})


@pytest.mark.parametrize(("published", "cut"), [((20.0, 21.0), True), ((0.5, 21.0), False)])
def test_an_axis_is_called_cut_where_it_does_not_begin_at_zero(
    published: tuple[float, float], cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "_png", lambda figure: figure)
    spec = sweep([{"name": f"{value}", "published": value} for value in published], source="a paper")
    found = [Result(row, (0.5, 0.52), (), {}, (), frozenset(), frozenset(), None) for row in spec.rows]
    bars = next(iter(draw(spec, found, Costs({}, "")).values()))
    ours, theirs = bars.axes
    assert "axis cut" in ours.get_xlabel()
    assert ("axis cut" in theirs.get_xlabel()) == cut


def test_ours_stands_beside_the_published_figure(tmp_path: Path) -> None:
    spec = sweep(TRIALS, seeds=[0, 2], source="a paper, Table 2", published_on="Cityscapes val")
    drive(spec, tmp_path)
    found = results(spec, tmp_path)
    written = text(spec, found, Costs({0: Cost(1_500_000, 2_500_000_000)}, "not timed: why"), [tmp_path / "bars.png"])
    table = rows(written)
    assert table["trial"][:6] == ["miou %", "seeds", "parameters M", "G multiply-adds", "time", "published"]
    assert table["sum"][:4] == ["21.00 ± 1.41", "2", "1.50", "2.50"]
    assert table["sum"][5] == "68.60"
    assert table["BGA <b>"][:2] == ["51.00 ± 1.41", "2"]
    assert table["BGA <b>"][5] == "69.67 (Table 2)"
    assert table["broken"][:2] == ["–", "0, 2 failed"]
    for line in (
        "latency: not timed: why",
        "ours: stub val, 3 images",
        "a paper, Table 2, on Cityscapes val",
        "4 done, 2 failed",
        "![bars]",
    ):
        assert line in written
    assert written.count("error: made to fail") == 2


def test_the_page_holds_everything_and_asks_for_nothing(tmp_path: Path) -> None:
    spec = sweep(TRIALS)
    drive(spec, tmp_path)
    found = results(spec, tmp_path)
    pictures = draw(spec, found, Costs())
    for name, content in pictures.items():
        assert content.startswith(b"\x89PNG")
        (tmp_path / name).write_bytes(content)
    written = page(spec, found, Costs(), [tmp_path / name for name in pictures])
    assert "BGA &lt;b&gt;" in written
    assert written.count("data:image/png;base64,") == len(pictures) == 1
    assert not re.search(r"(src|href)=\"(?!data:)", written)


def test_latency_has_a_column_and_a_picture_once_it_is_known(tmp_path: Path) -> None:
    spec = sweep(TRIALS, seeds=[0, 2])
    drive(spec, tmp_path)
    found = results(spec, tmp_path)
    cost = Cost(1_500_000, 2_500_000_000, (0.011, 0.010, 0.030))
    assert cost.quartiles == pytest.approx((10.5, 20.5))
    costs = Costs({0: cost, 1: dataclasses.replace(cost, seconds=(0.02,))}, "how")
    table = rows(text(spec, found, costs, []))
    assert table["trial"][4] == "latency ms"
    assert [table[name][4] for name in ("sum", "BGA <b>", "broken")] == ["11.0", "20.0", "–"]
    assert draw(spec, found, costs)["cost.png"].startswith(b"\x89PNG")


def test_a_loss_is_no_percentage_and_a_bar_in_an_option_no_column(tmp_path: Path) -> None:
    spec = sweep([{"name": "a|b", "set": ["value=0.2"]}, {"name": "c", "set": ["value=0.5"]}], direction="minimize")
    drive(spec, tmp_path)
    found = results(spec, tmp_path)
    lines = text(spec, found, Costs(), []).splitlines()
    assert any(re.match(r"\| trial +\| miou +\| seeds", line) for line in lines)
    assert any(re.match(r"\| a\\\|b +\| 0\.2 +\|", line) for line in lines)
    assert set(draw(spec, found, Costs())) == {"bars.png"}


def test_an_unfinished_sweep_has_a_table(tmp_path: Path) -> None:
    spec = sweep(TRIALS)
    found = results(spec, tmp_path)
    written = text(spec, found, Costs(), [])
    assert "nothing scored yet" in written
    assert rows(written)["sum"][:2] == ["–", "0, 1 waiting"]
    assert draw(spec, found, Costs()) == {}


def result(name: str, *values: float) -> Result:
    return Result(Row(0, name, ()), values, (), {}, (), frozenset(), frozenset(), None)


def test_nothing_is_claimed_that_the_spread_does_not_carry() -> None:
    spec = sweep([{"name": "a"}])
    close = [result("a", 0.70, 0.72), result("b", 0.69, 0.71), result("c", 0.10, 0.11)]
    assert "Best mean: a; not distinguishable from it: b." in tell_apart(spec, close)
    assert "no order of rows is claimed" in tell_apart(spec, [result("a", 0.7), result("b", 0.6)])
    lowest = sweep([{"name": "a"}], direction="minimize")
    assert tell_apart(lowest, close).startswith("Best mean: c; the others")


def test_a_grid_crosses_the_named_trials_and_the_seeds() -> None:
    spec = sweep([{"name": "x", "set": ["a=1"]}], grid={"b.c": [[1, 2], None], "d": [True]}, seeds=[0, 1])
    assert [row.options for row in spec.rows] == [("a=1", "b.c=[1,2]", "d=true"), ("a=1", "b.c=null", "d=true")]
    ids = [trial.id for row in spec.rows for trial in spec.trials(row)]
    assert len(set(ids)) == 4
    assert ids[0] == "00_x-b.c-1-2-d-true_seed0"
    assert spec.options(spec.trials(spec.rows[0])[1])[-1] == "seed=1"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "varies nothing"),
        ({"trials": [{"name": "a"}], "seeds": [0, 0]}, r"sweep\.seeds=\[0, 0\] must be different"),
        ({"trials": [{"name": "a", "sett": []}]}, r"sweep\.trials\[0\]\.sett does not exist\. Did you mean 'set'\?"),
        ({"trials": [{"name": "a", "published": "1 %"}]}, r"published=1 % \('a'\) must be a number"),
        ({"grid": {"a": 3}}, r"sweep\.grid: a: 3 must be a list"),
        ({"trials": [{"name": "a"}], "direction": "up"}, r"sweep\.direction=up is unknown"),
        ({"trials": [{"name": "a"}], "devices": 0}, r"sweep\.devices=0 must be"),
        ({"trials": [{"name": "a"}], "search": {"trials": 1}}, r"sweep\.search is given beside"),
        ({"trial": []}, r"sweep\.trial does not exist\. Did you mean 'trials'\?"),
        ({"search": {"trials": 2, "spce": {}}}, r"sweep\.search\.spce does not exist\. Did you mean 'space'\?"),
        ({"search": {"space": {"a": {"low": 0}}}}, r"sweep\.search\.trials=None must be a whole number of 1 or more"),
        ({"search": {"trials": 2, "space": {}}}, r"sweep\.search\.space must name options"),
    ],
)
def test_what_no_sweep_can_be(tree: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse({"objective": "miou", "direction": "maximize", "devices": 1, "seeds": [0], **tree})
