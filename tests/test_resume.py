"""A run killed in mid-epoch and resumed ends with the weights of a run that was never killed, to the bit.

Resumed with another number of loading processes, which does not matter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from src.build import from_config
from src.cli.resume import prepare
from src.commands.train import train
from src.errors import UserError
from src.training.module import SegmentationModule
from tests.conftest import ROOT, call
from tests.ranks import join

_FORK = multiprocessing.get_context("fork")
OVERRIDES = [
    "model=fcn_torchvision", "model.net.backbone.name=test_resnet", "model.net.channels=[16]",
    "model.net.aux_channels=16", "data.length={train: 20, val: 4, test: 4}", "data.size=[32,64]", "data.batch_size=4",
    "data.num_workers=1", "data.eval_batch_size=2", "transforms.crop_size=[32,64]", "transforms.hue=0.1",
    "transforms.blur=0.5", "model.net.dropout=0.2", "trainer=cpu", "trainer.max_epochs=3", "logger=none",
    "schedule=warmup_poly", "ema=0.9", "optimizer.lr=0.02", "trainer.log_every_n_steps=1", "callbacks.panels=null",
    "callbacks.charts=null",
]  # fmt: skip


class Killed(SegmentationModule):
    """Dies at once, as by kill -9, after a batch in the middle of an epoch."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (self.current_epoch, batch_idx) == (1, 3):
            os.kill(os.getpid(), signal.SIGKILL)


def _train_until_killed(overrides: list[str], folder: Path) -> None:
    from_config.SegmentationModule = Killed
    call("train", *overrides, f"hydra.run.dir={folder}")


def _train(root: str, overrides: list[str], folder: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        train(compose(root, overrides=[*overrides, f"run_dir={folder}"]))


EACH_EPOCH = "callbacks.last.every_n_epochs=1"  # the last checkpoint is from the end of the epoch before
BY_STEPS = "callbacks.last.every_n_epochs=null"


@pytest.mark.parametrize(
    "saving",
    [
        pytest.param([BY_STEPS, "callbacks.last.every_n_train_steps=2"], id="mid-epoch"),
        pytest.param([EACH_EPOCH], id="epoch", marks=pytest.mark.slow),
        pytest.param([EACH_EPOCH, "trainer.limit_train_batches=4"], id="part of the data", marks=pytest.mark.slow),
        pytest.param(
            [BY_STEPS, "callbacks.last.every_n_train_steps=1", "trainer.accumulate_grad_batches=2"],
            id="accumulated",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_and_resumed_equals_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saving: list[str]
) -> None:
    """Killed in a process of its own; resumed, and whole, in this one, on one thread as well."""
    options = [*OVERRIDES, *saving]
    monkeypatch.setattr("src.reports.console.draw_scores", lambda *_: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        killed = _FORK.Process(target=_train_until_killed, args=(options, tmp_path / "killed"))
        killed.start()
        join([killed])
        assert killed.exitcode == -signal.SIGKILL
        _train(*prepare([f"resume={tmp_path}/killed", "data.num_workers=0"]), tmp_path / "killed")
        _train("train", options, tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)

    ends = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("killed", "whole")]
    assert ends[0]["global_step"] == ends[1]["global_step"]
    for part in ("state_dict", "current_model_state"):
        assert ends[0][part].keys() == ends[1][part].keys()
        different = [name for name in ends[0][part] if not torch.equal(ends[0][part][name], ends[1][part][name])]
        assert not different
    assert str(ends[0]["optimizer_states"]) == str(ends[1]["optimizer_states"])
    assert str(ends[0]["lr_schedulers"]) == str(ends[1]["lr_schedulers"])
    rows = [_without_speed(tmp_path / run / "metrics.csv") for run in ("killed", "whole")]
    assert rows[0] == rows[1]


def _without_speed(path: Path) -> list[dict[str, str]]:
    import csv

    with path.open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("train/images_per_second", "train/data_wait")}
            for row in csv.DictReader(file)
        ]


def _saved_run(folder: Path) -> Path:
    """Checkpoints that hold no more than a config."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last", "best"):
        torch.save({"semseg": {"config": {"name": name}, "wandb_id": "abc"}}, folder / f"checkpoints/{name}.ckpt")
    return folder


def test_auto_starts_a_run_then_goes_on_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = ["resume=auto", f"hydra.run.dir={folder}", "model=fcn8s", "model/scales=max", "seed=3", "+trainer.x=1"]
    assert prepare(line) == ("train", [*line[1:], f"hydra.run.dir='{folder}'", "resume=auto"])
    _saved_run(folder)
    root, overrides = prepare(line)
    assert root == "resumed"
    assert overrides[:2] == ["seed=3", "++trainer.x=1"]
    assert f"ckpt_path='{folder / 'checkpoints/last.ckpt'}'" in overrides
    assert not any(item.startswith("model") for item in overrides)
    assert (folder / "wandb_id.txt").read_text() == "abc"


def test_auto_finds_the_folder_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=r"hydra\.run\.dir=runs/train/<name>"):
        prepare(["resume=auto"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "night")
    assert prepare(["resume=auto"]) == ("train", ["hydra.run.dir='runs/train/torchrun_night'", "resume=auto"])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert prepare(["resume=auto"]) == ("train", ["hydra.run.dir='runs/train/slurm_7'", "resume=auto"])


def test_a_damaged_last_checkpoint_is_told_and_the_best_one_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _saved_run(tmp_path / "run")
    last, best = (run / f"checkpoints/{name}.ckpt" for name in ("last", "best"))
    last.write_bytes(last.read_bytes()[:-100])
    assert f"ckpt_path='{best}'" in prepare([f"resume={run}"])[1]
    assert f"resuming from {best}, because the last checkpoint cannot be used: {last}" in capsys.readouterr().out
    best.unlink()
    with pytest.raises(UserError, match=r"last\.ckpt"):
        prepare([f"resume={run}"])
