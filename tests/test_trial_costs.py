"""What a sweep's report says that nets cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.profiling import sweep_costs as timing
from src.sweeps import Result, Row
from tests.conftest import ROOT

NET = ["model.net.width_multiplier=0.25", "model.net.head_channels=8", "data.crop_size=[32,64]"]


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Result]]:
    """A finished row, one whose net is the same, one with another net, and one that has not begun."""
    monkeypatch.setattr(timing, "_RUNS", 2)
    options = [[], ["optimizer.lr=0.1"], ["model.net.fusion=sum"]]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for index, own in enumerate(options):
            cfg = compose("train", overrides=["data=toy_streets", *NET, *own, "run_dir=x"])
            (tmp_path / f"{index}.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    made = [_result(index, tmp_path / f"{index}.yaml") for index in range(len(options))]
    yield [*made, _result(3, None)]


def _result(index: int, config: Path | None, device: str = "cpu") -> Result:
    row = Row(index, f"row {index}", ())
    return Result(row, (0.5,), (1.0,), {"done": 1}, (), frozenset(), frozenset([device]), config)


def test_nets_are_timed_once_and_where_they_are_the_same_together(found: list[Result], tmp_path: Path) -> None:
    first = timing.trial_costs(found, tmp_path, idle=True)
    assert set(first.of) == {0, 1, 2}
    assert all(len(cost.seconds) == 6 and min(cost.seconds) > 0 for cost in first.of.values())
    assert first.of[0].seconds == first.of[1].seconds != first.of[2].seconds
    assert first.of[0].multiply_adds > first.of[2].multiply_adds > 0
    assert "nets in turn" in first.timed and "thread(s)" in first.timed
    assert timing.trial_costs(found, tmp_path, idle=False) == first, "kept"


@pytest.mark.slow
def test_figures_of_two_timings_are_not_set_side_by_side(found: list[Result], tmp_path: Path) -> None:
    before = timing.trial_costs(found[:1], tmp_path, idle=True)
    after = timing.trial_costs(found[:3], tmp_path, idle=True)
    assert before.of[0].seconds != after.of[0].seconds
    assert len(json.loads((tmp_path / "latency.json").read_text())["seconds"]) == 2


def test_what_is_not_timed_says_why(found: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert timing.trial_costs(found, tmp_path, idle=False).timed == (
        "not timed while trials run; report= does it once they have ended"
    )
    elsewhere = [_result(0, tmp_path / "0.yaml", "NVIDIA H100")]
    costs = timing.trial_costs(elsewhere, tmp_path, idle=True)
    assert "trials ran on NVIDIA H100" in costs.timed and costs.of[0].seconds == ()
    assert not (tmp_path / "latency.json").exists()


def test_a_net_that_cannot_be_measured_costs_no_other_its_figures(
    found: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (tmp_path / "2.yaml").read_text()
    (tmp_path / "2.yaml").write_text(text.replace("fusion: sum", "fusion: product"))
    costs = timing.trial_costs(found, tmp_path, idle=True)
    assert set(costs.of) == {0, 1} and all(cost.seconds for cost in costs.of.values())
    assert "warning: row 2 is not measured" in capsys.readouterr().err
