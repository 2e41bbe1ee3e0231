"""Runs that are killed at random places, one rank or two, go on to the same end, to the bit."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.ranks import Ending, Fault, run_ranks

KILLS = int(os.environ.get("SEMSEG_KILLS", "4"))  # SEMSEG_KILLS=20 for the whole of it
OPTIONS = [
    "hydra.run.dir=run", "data.length={train: 12, val: 4, test: 2}", "data.size=[32,64]", "data.num_workers=0",
    "data.eval_batch_size=1", "transforms.crop_size=[32,64]", "transforms.hue=0.1", "model.net.dropout=0.2",
    "model.net.width_multiplier=0.25", "trainer=cpu", "trainer.max_epochs=3", "logger=none", "ema=0.9",
    "optimizer.lr=0.02", "trainer.log_every_n_steps=1", "callbacks.panels=null", "callbacks.charts=null",
    "preflight=false",
]  # fmt: skip
RANKS = {
    1: ["data.batch_size=4"],
    2: [
        "data.batch_size=1", "trainer.accumulate_grad_batches=2", "trainer.devices=2", "trainer.strategy=ddp",
        "trainer.sync_batchnorm=true",
    ],
}  # fmt: skip
OFTEN = ["callbacks.last.every_n_epochs=null", "callbacks.last.every_n_train_steps=2"]
PLACES = {  # how often a run of 9 steps and 3 epochs comes there at least, with one rank and with two
    "step": (9, 9), "update": (9, 9), "validation": (13, 7), "scores": (4, 4),
    "before saving": (4, 4), "in saving": (4, 4), "before renaming": (4, 4), "after renaming": (4, 4),
}  # fmt: skip


def _fault(draw: random.Random, ranks: int) -> Fault:
    place = draw.choice(list(PLACES))
    writes = place in ("before saving", "in saving", "before renaming", "after renaming")  # only the first rank does
    return Fault(place, draw.randint(1, PLACES[place][ranks - 1]), 0 if writes else draw.randrange(ranks))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs that were never killed, by the number of ranks."""
    folders = {ranks: tmp_path_factory.mktemp(f"whole_{ranks}") for ranks in RANKS}
    for ranks, folder in folders.items():
        assert [end.code for end in run_ranks(folder, *OPTIONS, *RANKS[ranks], ranks=ranks)] == [0] * ranks
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(KILLS))
def test_a_run_killed_anywhere_ends_alike_to_the_bit(tmp_path: Path, whole: dict[int, Path], kill: int) -> None:
    draw = random.Random(kill)
    ranks, saving = 1 + kill % 2, [[], OFTEN][kill // 2 % 2]
    fault = _fault(draw, ranks)
    options = [*OPTIONS, *RANKS[ranks], *saving, "resume=auto"]
    killed = run_ranks(tmp_path, *options, ranks=ranks, fault=fault)
    assert killed[fault.rank].code == -signal.SIGKILL, (fault, killed)
    last, best = (tmp_path / f"run/checkpoints/{name}.ckpt" for name in ("last", "best"))
    if damaged := kill % 5 == 1 and best.is_file() and last.is_file():
        last.write_bytes(last.read_bytes()[:-99])
    start = best if damaged else last
    done = torch.load(start, weights_only=True)["global_step"] if start.is_file() else 0
    again = run_ranks(tmp_path, *options, ranks=ranks)
    assert [end.code for end in again] == [0] * ranks, (fault, again)
    assert [end.batches for end in again] == [(9 - done) * ranks] * ranks, fault  # with two, a step is two batches
    assert_same_end(tmp_path / "run", whole[ranks] / "run", why=str(fault))


@pytest.mark.slow
def test_a_scheduler_gets_a_saved_run_and_a_status_that_is_not_0(tmp_path: Path, whole: dict[int, Path]) -> None:
    """All processes of the job are signalled, those that load data included."""
    options = [*OPTIONS, *RANKS[1], "data.num_workers=1", "resume=auto"]
    (end,) = run_ranks(tmp_path, *options, fault=Fault("update", 4, signal=signal.SIGTERM))
    assert end.code == 128 + signal.SIGTERM
    assert "SIGTERM at step 4: saved" in end.output
    assert end.output.splitlines()[-2].startswith("stopped; resume with: python -m src.train resume=")
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    (end,) = run_ranks(tmp_path, *options, fault=Fault("test", 1, signal=signal.SIGTERM))
    assert end.code == 128 + signal.SIGTERM
    assert "stopped; resume with" in end.output
    (end,) = run_ranks(tmp_path, *options)
    assert end.code == 0
    assert_same_end(tmp_path / "run", whole[1] / "run", why="SIGTERM")


@pytest.mark.slow
def test_one_rank_that_is_to_give_way_stops_all_and_queues_the_job_again(tmp_path: Path) -> None:
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    env = {"PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    fault = Fault("step", 3, rank=1, signal=signal.SIGUSR1)
    ends = run_ranks(tmp_path, *OPTIONS, *RANKS[2], ranks=2, fault=fault, env=env)
    assert [end.code for end in ends] == [128 + signal.SIGUSR1] * 2, ends
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert "SIGUSR1 at step 2: saved" in ends[0].output
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_is_skipped_by_both(tmp_path: Path) -> None:
    options = [*OPTIONS, *RANKS[2], "callbacks.non_finite.action=skip"]
    ends = run_ranks(tmp_path, *options, ranks=2, fault=Fault("loss", 7, rank=1))
    assert [end.code for end in ends] == [0, 0], ends
    (kept,) = (tmp_path / "run/non_finite").iterdir()
    assert kept.name == "epoch_1_batch_0_rank_1"
    names = (kept / "names.txt").read_text().split()
    assert len(names) == 1
    assert f"step 3 skipped: the loss is not finite at step 3 (epoch 1, images {', '.join(names)})" in ends[0].output
    batch = torch.load(kept / "batch.pt", weights_only=True)
    assert batch["name"] == names
    assert batch["image"].shape == (1, 3, 32, 64)
    assert (kept / "overlay.png").is_file()
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 9
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values() if tensor.is_floating_point())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_both(tmp_path: Path) -> None:
    options = [*OPTIONS, *RANKS[2], "callbacks.non_finite.action=stop"]
    ends = run_ranks(tmp_path, *options, ranks=2, fault=Fault("loss", 7, rank=1))
    assert [end.code for end in ends] == [1, 1], ends
    assert [end.batches for end in ends] == [7, 7]
    (kept,) = (tmp_path / "run/non_finite").iterdir()
    assert kept.name == "epoch_1_batch_0_rank_1"
    assert sorted(path.name for path in kept.iterdir()) == ["batch.pt", "names.txt", "overlay.png"]
    (name,) = torch.load(kept / "batch.pt", weights_only=True)["name"]
    for end in ends:
        (line,) = _errors(end)
        assert f"the loss is not finite at step 3 (epoch 1, images {name}); the batch is in {kept};" in line
        assert "last good checkpoint: " in line
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values() if tensor.is_floating_point())


@pytest.mark.slow
def test_ranks_that_log_other_names_than_each_other_mix_nothing(tmp_path: Path, whole: dict[int, Path]) -> None:
    """From the third batch on, within an epoch: one rank has a name of its own, and lacks one of the other's."""
    ends = run_ranks(tmp_path, *OPTIONS, *RANKS[2], ranks=2, fault=Fault("other parts", 3, rank=1))
    assert [end.code for end in ends] == [0, 0], ends
    rows, expected = (_history(folder / "run") for folder in (tmp_path, whole[2]))
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        step, name = int(row["step"]), "train/aux_s2"
        assert {key: row[key] for key in other if key != name} == {key: other[key] for key in other if key != name}
        assert row["train/own"] == ("7" if step > 3 else ""), "known to all from the next epoch on"
        assert (row[name] == other[name]) == (step == 1)
        assert float(row[name]) == pytest.approx(float(other[name]), rel=0.3)  # of the first rank alone


@pytest.mark.slow
def test_a_disk_that_is_full_ends_both_ranks_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    ends = run_ranks(tmp_path, *OPTIONS, *RANKS[2], ranks=2, fault=Fault("full disk", 3))
    assert [end.code for end in ends] == [1, 1], ends  # the second would have -9, had it hung
    (line,), (other,) = map(_errors, ends)
    assert ".ckpt: checkpoint cannot be written (" in line
    assert "File too large" in line
    assert "the previous checkpoint there is intact" in line
    assert other == "error: another process of this run has ended; its message says why"
    files = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert files == {"best.ckpt", "last.ckpt"}
    for name in files:
        assert torch.load(tmp_path / "run/checkpoints" / name, weights_only=True)["global_step"] == 3


@pytest.mark.slow
def test_torchrun_starts_a_job_again_that_lost_a_worker(tmp_path: Path, whole: dict[int, Path]) -> None:
    launcher = "torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=1 -m tests.ranks"
    done = subprocess.run(
        [sys.executable, "-m", *launcher.split(), *OPTIONS, *RANKS[2], "resume=auto"],
        env={
            **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FAULT": "step 9 1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    outputs = {path.stem: path.read_text() for path in tmp_path.glob("life_*.txt")}
    assert done.returncode == 0, (done.stderr[-3000:], outputs)
    assert sorted(outputs) == [f"life_{life}_rank_{rank}" for life in (0, 1) for rank in (0, 1)]
    assert "batches trained" not in outputs["life_0_rank_1"]  # killed
    assert [Ending(0, outputs[f"life_1_rank_{rank}"]).batches for rank in (0, 1)] == [12, 12]  # after epoch 1 of 3
    assert_same_end(tmp_path / "run", whole[2] / "run", why="restarted")


@pytest.mark.slow
def test_ranks_that_do_not_see_one_run_folder_end_with_one_line(tmp_path: Path, whole: dict[int, Path]) -> None:
    shutil.copytree(whole[2] / "run", tmp_path / "run")
    options = [*OPTIONS, *RANKS[2], "resume=auto", "trainer.max_epochs=4"]
    ends = run_ranks(tmp_path, *options, ranks=2, fault=Fault("no checkpoint to be seen", rank=1))
    assert [end.code for end in ends] == [1, 1], ends
    assert "error: process 1 would resume from another place (the start) than the first (epoch 2, batch 6)" in (
        ends[0].output
    )


@pytest.mark.slow
def test_a_parameter_that_nothing_uses_is_told(tmp_path: Path) -> None:
    options = [*OPTIONS, *RANKS[1], "trainer.strategy=ddp"]
    (end,) = run_ranks(tmp_path, *options, fault=Fault("unused parameter"))
    assert end.code == 1
    assert "error: the net has parameters that no output of the step used" in end.output
    assert "trainer.strategy=ddp_find_unused_parameters_true" in end.output
    assert end.batches == 1


def assert_same_end(one: Path, other: Path, *, why: str) -> None:
    for name in ("last", "best"):
        ends = [torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for run in (one, other)]
        assert ends[0]["global_step"] == ends[1]["global_step"], (why, name)
        for part in ("state_dict", "current_model_state"):
            assert ends[0][part].keys() == ends[1][part].keys()
            different = [key for key in ends[0][part] if not torch.equal(ends[0][part][key], ends[1][part][key])]
            assert not different, (why, name, part)
        for part in ("optimizer_states", "lr_schedulers"):
            assert str(ends[0][part]) == str(ends[1][part]), (why, name, part)
        best = [str(_best(end)) for end in ends]
        assert best[0] == best[1], (why, name)
    assert _history(one) == _history(other), why
    assert (one / "scores_test.json").is_file()


def _errors(end: Ending) -> list[str]:
    assert "Traceback" not in end.output
    return [line for line in end.output.splitlines() if line.startswith("error: ")]


def _best(checkpoint: dict) -> torch.Tensor:
    (state,) = (state for key, state in checkpoint["callbacks"].items() if "val/miou" in key)
    return state["best_model_score"]


def _history(run: Path) -> list[dict[str, str]]:
    speed = ("train/images_per_second", "train/data_wait")
    with (run / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in speed} for row in csv.DictReader(file)]
