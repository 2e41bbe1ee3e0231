"""A run that is stopped by any signal at any moment, in training, validation or test, ends as one that never was."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
from pathlib import Path

import pytest

from tests.conftest import call
from tests.ranks import SENT, Fault, run_ranks
from tests.test_kill import assert_same_end

MOMENTS = int(os.environ.get("SEMSEG_MOMENTS", "6"))  # SEMSEG_MOMENTS=40 for the whole of it
SEED = int(os.environ.get("SEMSEG_SEED") or random.randrange(10**6))  # new in each run of the tests, unless it is given
SIGNALS = {signal.SIGKILL: {-9}, signal.SIGTERM: {143}, signal.SIGUSR1: {138}, signal.SIGINT: {1}}  # and their statuses
PLACES = {  # how often a run of two epochs and 4 steps comes there, at least
    "start": 1, "step": 8, "update": 4, "validation": 9, "scores": 3, "in saving": 4, "after renaming": 4, "test": 2,
    "writing scores": 1, "pictures": 1,
}  # fmt: skip
OPTIONS = [
    "hydra.run.dir=run", "resume=auto", "data=shards", "data.num_workers=2", "data.batch_size=3",
    "data.eval_batch_size=1", "transforms.crop_size=[64,64]", "transforms.hue=0.1", "sampler=class_uniform",
    "sampler.fraction=1", "model/scales=hierarchical", "model.net.width_multiplier=0.25", "model.net.dropout=0.2",
    "ema=0.9", "optimizer.lr=0.02", "trainer=cpu", "trainer.max_epochs=2", "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1", "logger=none", "preflight=false", "callbacks.charts=null",
    "callbacks.panels.count=1", "worst_images=1",
]  # fmt: skip
WAYS = [  # of saving and validating
    [],
    ["callbacks.last.every_n_epochs=null", "callbacks.last.every_n_train_steps=1", "trainer.val_check_interval=0.5"],
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("shards")
    where = ["data.length={train: 12, val: 3, test: 2}", "data.size=[64,64]", "split=[train,val,test]", f"out={out}"]
    call("shards", "data=toy_streets", *where)
    return f"data.root={out}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shards: str) -> list[Path]:
    """Runs that were never stopped, for each of ``WAYS``."""
    folders = [tmp_path_factory.mktemp("whole") for _ in WAYS]
    for way, folder in zip(WAYS, folders, strict=True):
        (end,) = run_ranks(folder, *OPTIONS, *way, shards)
        assert end.code == 0, end.output
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_run_stopped_at_any_moment_ends_alike_to_the_bit(
    tmp_path: Path, whole: list[Path], shards: str, moment: int
) -> None:
    draw = random.Random(f"{SEED} {moment}")
    number = [*SIGNALS][moment % 4]
    place = draw.choice([*PLACES])
    fault = Fault(place, draw.randint(1, PLACES[place]), signal=number, delay=draw.uniform(0.001, 0.4))
    way = draw.randrange(len(WAYS))
    told = f"SEMSEG_SEED={SEED}, moment {moment}: {fault}, way {way}"
    print(told)
    (stopped,) = run_ranks(tmp_path, *OPTIONS, *WAYS[way], shards, fault=fault)
    sent = SENT in stopped.output  # a run as small as this may end before a late signal comes
    assert stopped.code in (SIGNALS[number] if sent else {0}), (told, stopped)
    assert not any("Traceback" in line for line in stopped.output.splitlines()), (told, stopped)
    (again,) = run_ranks(tmp_path, *OPTIONS, *WAYS[way], shards)
    assert again.code == 0, (told, stopped, again)
    assert_same_end(tmp_path / "run", whole[way] / "run", why=told)
    assert_same_scores(tmp_path / "run", whole[way] / "run", why=told)
    print(f"{told}: ended with {stopped.code}")


def assert_same_scores(one: Path, other: Path, *, why: str) -> None:
    scores = [json.loads((run / "scores_test.json").read_text()) for run in (one, other)]
    for each in scores:
        each["protocol"] = {key: each["protocol"][key] for key in each["protocol"] if key not in ("date", "checkpoint")}
    assert scores[0] == scores[1], why
    images = [[*csv.reader((run / "per_image_test.csv").open())] for run in (one, other)]
    assert images[0] == images[1], why
    pictures = [sorted(path.name for path in run.rglob("*.png")) for run in (one, other)]
    assert pictures[0] == pictures[1], why
    assert not [path for path in one.rglob("*") if ".partial" in path.name], why
