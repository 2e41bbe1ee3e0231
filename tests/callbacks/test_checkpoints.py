"""When checkpoints are written, what a moved run remembers, and how a run gives way to a signal."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from src.callbacks import LastCheckpoint, MovableCheckpoint, StopOnSignal, TimeLimit
from src.runtime import signals
from tests.callbacks.test_callbacks import Data, Net


class Scored(Net):
    """Its validations have the scores that it is given."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = scores

    def on_validation_epoch_end(self) -> None:
        self.log("val/miou", self.scores[self.current_epoch])


class Noted(LastCheckpoint):
    """Batches of its epoch that were over at each save."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.batches: list[int] = []

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        loops = torch.load(filepath, weights_only=True)["loops"]["fit_loop"]
        self.batches.append(loops["epoch_loop.batch_progress"]["current"]["ready"])


def _fit(module: Net, callbacks: list[pl.Callback], folder: Path, resume: Path | None = None, **options: Any) -> None:
    quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=callbacks, **quiet, **options)
    trainer.fit(module, Data(), ckpt_path=resume, weights_only=True)


def test_a_moved_run_keeps_its_best_score_and_file(tmp_path: Path) -> None:
    def callbacks(folder: Path) -> list[pl.Callback]:
        best = MovableCheckpoint(folder, filename="best", monitor="val/miou", mode="max", enable_version_counter=False)
        return [best, LastCheckpoint(str(folder))]

    _fit(Scored(0.7, 0.5), callbacks(tmp_path / "a"), tmp_path, max_epochs=2)
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = callbacks(tmp_path / "b")
    _fit(Scored(0, 0, 0.6), again, tmp_path, tmp_path / "b/last.ckpt", max_epochs=3)
    assert again[0].best_model_path == str(tmp_path / "b/best.ckpt")
    assert float(again[0].best_model_score) == pytest.approx(0.7)
    assert torch.load(tmp_path / "b/best.ckpt", weights_only=True)["epoch"] == 0
    assert not (tmp_path / "a").exists()
    (tmp_path / "b/best.ckpt").unlink()
    _fit(Scored(0, 0, 0, 0.1), [*callbacks(tmp_path / "b")], tmp_path, tmp_path / "b/last.ckpt", max_epochs=4)
    assert torch.load(tmp_path / "b/best.ckpt", weights_only=True)["epoch"] == 3


@pytest.mark.parametrize(
    ("every", "options", "saved"),
    [
        (4, {"accumulate_grad_batches": 2, "val_check_interval": 5}, [6]),  # validates within a step
        (1, {"accumulate_grad_batches": 2, "val_check_interval": 2}, [2, 4, 6]),  # between steps: saved behind it
        (1, {"val_check_interval": 3}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_no_state_is_saved_within_a_step(tmp_path: Path, every: int, options: dict[str, int], saved: list[int]) -> None:
    last = Noted(str(tmp_path), every_n_epochs=None, every_n_train_steps=every)
    _fit(Scored(0.5), [last], tmp_path, max_epochs=1, **options)
    assert last.batches == saved


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a stub for SLURM's ``scontrol`` notes that the job was queued again."""
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho queued >> {tmp_path}/order\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    return tmp_path / "order"


@pytest.mark.usefixtures("_handlers")
def test_nobody_leaves_before_the_job_is_queued_again(order: Path) -> None:
    """``srun --kill-on-bad-exit`` ends all processes when the first one exits."""

    def barrier() -> None:
        with order.open("a") as file:
            file.write("left\n")

    trainer = SimpleNamespace(
        world_size=1, is_global_zero=True, global_step=3, strategy=SimpleNamespace(barrier=barrier)
    )
    stop = StopOnSignal()
    stop.on_train_start(trainer, None)
    signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(SystemExit) as ending:
        stop.on_train_end(trainer, None)
    assert ending.value.code == 128 + signal.SIGUSR1
    assert order.read_text() == "queued\nleft\n"


@pytest.mark.usefixtures("_handlers")
def test_signals_are_heard_before_and_after_training_too(order: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        with pytest.raises(SystemExit) as ending:
            signals.stoppable(signal.raise_signal)(number)
        assert ending.value.code == 128 + number
    assert order.read_text() == "queued\n", "for SIGUSR1 alone"
    monkeypatch.setenv("RANK", "1")
    signals.stoppable(signal.raise_signal)(signal.SIGUSR1)  # the first process has the job queued, then ends all
    assert order.read_text() == "queued\n"
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("stop", [SystemExit(143), KeyboardInterrupt()])
def test_an_error_in_tidying_up_does_not_hide_a_signal(stop: BaseException) -> None:
    """Lightning's, where a signal comes between two lines of its own."""

    @signals.stoppable
    def task() -> None:
        try:
            raise stop
        finally:
            raise RuntimeError("Please call `iter(combined_loader)` first.")

    with pytest.raises(type(stop)) as ending:
        task()
    assert ending.value is stop


class _Tidied:
    """Something whose end Python reaches while it ignores every exception, as in callbacks of compiled code."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_where_exceptions_are_ignored_is_not_lost(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    @signals.stoppable
    def task() -> None:
        _Tidied(number)
        time.sleep(10)

    hook = sys.unraisablehook
    with pytest.raises((SystemExit, KeyboardInterrupt)) as ending:
        task()
    assert getattr(ending.value, "code", 128 + signal.SIGINT) == 128 + number
    assert not capfd.readouterr().err
    assert sys.unraisablehook is hook


class Early(pl.Callback):
    """A scheduler that wants its machine back before the first step."""

    def on_fit_start(self, *_: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)


@pytest.mark.usefixtures("_handlers")
def test_a_job_is_queued_again_before_the_first_step_too(order: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ending:
        _fit(Scored(0.5), [StopOnSignal(), Early()], tmp_path, max_epochs=1)
    assert ending.value.code == 128 + signal.SIGUSR1
    assert order.read_text() == "queued\n"
    assert not list(tmp_path.glob("**/*.ckpt")), "there is nothing to save"


class Asked(pl.Callback):
    """A scheduler that wants its machine back in the second epoch."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("_handlers")
def test_a_signal_is_heard_where_every_step_ends_an_epoch(tmp_path: Path) -> None:
    options = {"max_epochs": 4, "limit_train_batches": 1}
    last = LastCheckpoint(str(tmp_path / "a"), every_n_epochs=3)
    with pytest.raises(SystemExit) as ending:
        _fit(Scored(*[0.5] * 4), [StopOnSignal(), Asked(), last], tmp_path, **options)
    assert ending.value.code == 128 + signal.SIGTERM
    state = torch.load(tmp_path / "a/last.ckpt", weights_only=True)
    assert (state["epoch"], state["global_step"]) == (1, 2)
    torch.manual_seed(0)
    _fit(module := Scored(*[0.5] * 4), [last], tmp_path, tmp_path / "a/last.ckpt", **options)
    assert (module.trainer.current_epoch, module.trainer.global_step) == (4, 4)


class AskedInValidation(pl.Callback):
    """A scheduler that wants its machine back while the last epoch is validated; it asks twice."""

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 2:
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize(
    "options", [{}, {"val_check_interval": 0.5}, {"accumulate_grad_batches": 5}, {"limit_train_batches": 1}]
)
def test_a_validation_in_which_a_signal_comes_counts(tmp_path: Path, options: dict[str, Any]) -> None:
    def callbacks(*more: pl.Callback) -> list[pl.Callback]:
        best = MovableCheckpoint(
            tmp_path, filename="best", monitor="val/miou", mode="max", enable_version_counter=False
        )
        return [StopOnSignal(), *more, best, LastCheckpoint(str(tmp_path))]

    scores = (0.2, 0.1, 0.9)  # the last epoch is the best
    with pytest.raises(SystemExit):
        _fit(Scored(*scores), callbacks(AskedInValidation()), tmp_path, max_epochs=3, **options)
    again = callbacks()
    _fit(Scored(*scores), again, tmp_path, tmp_path / "last.ckpt", max_epochs=3, **options)
    assert float(again[1].best_model_score) == pytest.approx(0.9)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 2


def test_the_last_state_is_saved_when_training_ends(tmp_path: Path) -> None:
    _fit(Scored(*[0.5] * 4), [LastCheckpoint(str(tmp_path), every_n_epochs=3)], tmp_path, max_epochs=4)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3


def test_a_run_that_its_time_has_ended_says_so_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = LastCheckpoint(str(tmp_path))
    _fit(Scored(*[0.5] * 3), [TimeLimit({"microseconds": 1}), last], tmp_path, max_epochs=3)
    assert "trainer.max_time is over at epoch " in capsys.readouterr().out
    step = torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"]
    assert step < 6
    again = [TimeLimit("00:00:10:00"), LastCheckpoint(str(tmp_path))]
    _fit(module := Scored(*[0.5] * 3), again, tmp_path, tmp_path / "last.ckpt", max_epochs=3)
    assert module.trainer.current_epoch == 3
    assert module.trainer.global_step > step
    assert "is over" not in capsys.readouterr().out
