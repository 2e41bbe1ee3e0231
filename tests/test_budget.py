"""A time budget: how it is written, what length it gives, and that a run keeps to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.build import training_length
from src.checkpoints.io import METADATA_KEY
from src.cli.resume import prepare
from src.commands.train import train
from src.errors import UserError
from src.training.budget import Length, Speed, check_alone, fitting_length, seconds_of, spell_seconds
from src.training.module import SegmentationModule
from tests.conftest import ROOT

DATA = ["data.length={train: 8, val: 2, test: 2}", "data.size=[32,64]", "data.batch_size=2", "data.num_workers=0"]
RUN = [*DATA, "transforms.crop_size=[32,64]", "trainer=cpu", "logger=none", "preflight=false", "worst_images=0"]
RUN += ["model.net.width_multiplier=0.25", "model.net.head_channels=16"]
QUIET = ["callbacks.panels=null", "callbacks.charts=null", "callbacks.page=null", "callbacks.progress=null"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("1h30m", 5400), ("0.5m", 30), ("1m5s", 65)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["20", "m", "0s", "-3m", "20 min", "1m1h", "nan"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UserError, match=rf"budget={text} is no length of time; write it like 90s, 20m"):
        seconds_of(text)


def test_times_as_people_read_them() -> None:
    assert [spell_seconds(value) for value in (0.0213, 1.14, 45.3, 845)] == ["0.021 s", "1.1 s", "45 s", "0:14:05"]


def cost(length: Length, speed: Speed) -> float:
    validations = length.epochs // length.validate_every
    return length.epochs * length.batches * speed.step + validations * speed.validation + speed.test


@pytest.mark.parametrize("budget", [60, 300, 1200, 7200])
@pytest.mark.parametrize("speed", [Speed(1, 2, 4), Speed(0.05, 4, 8), Speed(7, 20, 25), Speed(0.01, 0.001, 0.1)])
def test_as_much_as_fits_and_no_more(budget: float, speed: Speed) -> None:
    length = fitting_length(budget, speed, 46)
    assert cost(length, speed) <= 0.9 * budget
    assert length.epochs % length.validate_every == 0  # the last epoch is validated
    one_more = 46 * speed.step if length.batches == 46 else speed.step
    assert cost(length, speed) + length.validate_every * one_more + speed.validation > 0.9 * budget


def test_an_epoch_longer_than_the_budget_is_cut() -> None:
    assert fitting_length(100, Speed(1, 10, 20), 500) == Length(1, 60, 1)


def test_long_validations_come_seldom() -> None:
    length = fitting_length(1000, Speed(1, 100, 50), 10)
    assert (length.validate_every, length.epochs) == (40, 40)


def test_a_budget_for_less_than_one_step() -> None:
    with pytest.raises(UserError, match=r"20 s are left .* take about 0:01:20; raise it, or .*transforms\.crop_size"):
        fitting_length(20, Speed(12, 40, 20), 10)


@pytest.mark.parametrize("item", ["trainer.max_epochs=3", "+trainer.max_steps=9", "data.max_epochs=3"])
def test_one_length_only(item: str) -> None:
    with pytest.raises(UserError, match="budget=20m chooses the length of the run, and so does") as caught:
        prepare(["budget=20m", item])
    assert item in str(caught.value)
    check_alone(None, [item])
    check_alone("null", [item])


def test_a_resumed_run_keeps_its_length() -> None:
    with pytest.raises(UserError, match=r"budget=20m: a resumed run keeps its own length"):
        prepare(["budget=20m", "resume=last"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes ``time.monotonic`` stand still but for a second a training step and a quarter a scored batch."""
    now = [1000.0]
    pace = {"step": 1.0}
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps = []

    def ticking(name: str, seconds: Callable[[], float]) -> None:
        real = getattr(SegmentationModule, name)

        def ticked(self: Any, batch: Any, batch_idx: int) -> Any:
            now[0] += seconds()
            steps.append(name)
            return real(self, batch, batch_idx)

        monkeypatch.setattr(SegmentationModule, name, ticked)

    ticking("training_step", lambda: pace["step"])
    ticking("validation_step", lambda: 0.25)
    ticking("test_step", lambda: 0.25)

    class Clock:
        passed = property(lambda self: now[0] - 1000)
        taken = steps

        def slow_down(self, step: float) -> None:
            pace["step"] = step

    return Clock()


@pytest.fixture(autouse=True)
def _composer() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def _trainer(checkpoint: Path) -> dict[str, Any]:
    """The trainer's options in a checkpoint."""
    return torch.load(checkpoint, weights_only=True)[METADATA_KEY]["config"]["trainer"]


def config(folder: Path, *overrides: str) -> DictConfig:
    return compose("train", overrides=[*RUN, *QUIET, *overrides, f"run_dir={folder}"])


def test_a_run_ends_within_its_budget_and_resumes_without(
    tmp_path: Path, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(tmp_path, "budget=20s"))
    assert 0.6 * 20 <= clock.passed <= 20
    said = capsys.readouterr().out
    assert "budget 20s: " in said
    assert "epochs of 4 steps at 1 s, validation of 0.25 s" in said
    assert "training ends" not in said
    assert (tmp_path / "scores_test.json").is_file()
    last = tmp_path / "checkpoints/last.ckpt"
    saved = _trainer(last)
    assert f"budget 20s: {saved['max_epochs']} epochs" in said
    before = len(clock.taken)
    train(config(tmp_path, "budget=20s", f"trainer.max_epochs={saved['max_epochs']}", f"ckpt_path={last}"))
    assert "training_step" not in clock.taken[before:]  # nothing is measured, nothing is left to train


@pytest.mark.slow
def test_steps_that_become_slower_do_not_break_the_budget(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settle = training_length.with_length

    def then_slower(*arguments: Any, **options: Any) -> Any:
        found = settle(*arguments, **options)
        clock.slow_down(3.0)
        return found

    monkeypatch.setattr("src.commands.train.with_length", then_slower)
    train(config(tmp_path, "budget=25s"))
    assert clock.passed <= 25 + 3  # a step that has begun is finished
    assert "budget: training ends at batch" in capsys.readouterr().out
    assert (tmp_path / "scores_test.json").is_file()


@pytest.mark.slow
def test_measuring_does_not_change_the_run(tmp_path: Path, clock: Any) -> None:
    train(config(tmp_path / "a", "budget=12s"))
    saved = _trainer(tmp_path / "a/checkpoints/last.ckpt")
    train(
        config(
            tmp_path / "b",
            f"trainer.max_epochs={saved['max_epochs']}",
            f"trainer.limit_train_batches={saved['limit_train_batches']}",
        )
    )
    a, b = (torch.load(tmp_path / f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
