"""Two processes score and train as one does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.ranks import run_ranks

TINY = [
    "data.length={train: 16, val: 5, test: 5}", "data.size=[32,64]", "transforms.crop_size=[32,64]",
    "data.num_workers=0", "data.eval_batch_size=2", "trainer=cpu", "logger=none", "callbacks.charts=null",
    "callbacks.panels=null", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
]  # fmt: skip
FOLDER = [
    *(option for option in TINY if not option.startswith(("data.length", "data.size"))), "data=folder",
    "data.classes=[a,b]", "data.splits={train: [train], val: [val]}", "model.net.width_multiplier=0.25",
]  # fmt: skip
TWO = [
    "trainer.devices=2", "trainer.strategy=ddp", "trainer.sync_batchnorm=false", "sampler=class_uniform",
    "sampler.fraction=1",
]  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_resume_and_score_every_image_once(run, tmp_path: Path) -> None:
    """Five test images over two processes: no image is counted twice, and both processes use one run folder."""
    trained = run("train", *TINY, *TWO, "data.batch_size=2", "hydra.run.dir=two")
    assert trained.returncode == 0, trained.stderr
    resumed = run("train", "resume=two", "trainer.max_epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    last = torch.load(tmp_path / "two/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 12  # 16 images, 2 on each of 2 processes, 3 epochs
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["two"]

    together = json.loads((tmp_path / "two/scores_test.json").read_text())
    alone = run("evaluate", "ckpt=two/checkpoints/best.ckpt", "split=test", "hydra.run.dir=one", "trainer=cpu")
    assert alone.returncode == 0, alone.stderr
    assert (
        json.loads((tmp_path / "one/scores_test.json").read_text())["confusion_matrix"] == together["confusion_matrix"]
    )


@pytest.mark.slow
def test_two_ranks_follow_the_curve_of_one_with_the_same_total_batch(tmp_path: Path) -> None:
    """Loss, weights and running statistics of the norms; every pixel has a label, so the ranks' means weigh alike."""
    draw = np.random.default_rng(0)
    labels = [np.repeat(draw.integers(0, 2, (32, 2), dtype=np.uint8), 32, axis=1) for _ in range(18)]
    _write(tmp_path, {"train": labels[:16], "val": labels[16:]})
    same = [*FOLDER, f"data.root={tmp_path}", "transforms.scale=[1,1]", "model.net.dropout=0", "optimizer=sgd"]
    same += ["optimizer.lr=0.003"]  # steps of Adam make much of what is only rounding
    one = run_ranks(tmp_path, *same, "data.batch_size=4", "hydra.run.dir=one")
    both = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.sync_batchnorm=true", "data.batch_size=2"]
    two = run_ranks(tmp_path, *same, *both, "hydra.run.dir=two", ranks=2)
    assert [end.code for end in (*one, *two)] == [0, 0, 0], (one, two)

    states = [torch.load(tmp_path / f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("one", "two")]
    assert states[0]["global_step"] == states[1]["global_step"] == 8
    norms = [name for name in states[0]["state_dict"] if name.endswith(("running_mean", "running_var"))]
    assert len(norms) > 20
    for name, expected in states[0]["state_dict"].items():
        torch.testing.assert_close(
            states[1]["state_dict"][name], expected, rtol=1e-2, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    curves = [_column(tmp_path / f"{run}/metrics.csv", "train/loss") for run in ("one", "two")]
    assert len(curves[0]) >= 8
    assert curves[1][:5] == pytest.approx(curves[0][:5], rel=1e-5)
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)  # rounding grows where a norm sees eight values


@pytest.mark.slow
def test_validation_over_two_ranks_counts_each_image_once(tmp_path: Path) -> None:
    """With weights that do not change, and five images in batches of two."""
    still = [*TINY, "model.net.width_multiplier=0.25", "norms.freeze=statistics", "trainer.max_epochs=1"]
    still += ["optimizer.lr=1e-30", "optimizer.weight_decay=0", "data.batch_size=4", "trainer.limit_train_batches=1"]
    one = run_ranks(tmp_path, *still, "hydra.run.dir=one")
    two = run_ranks(tmp_path, *still, "hydra.run.dir=two", "trainer.devices=2", "trainer.strategy=ddp", ranks=2)
    assert [end.code for end in (*one, *two)] == [0, 0, 0], (one, two)
    rows = [_last_row(tmp_path / f"{run}/metrics.csv") for run in ("one", "two")]
    scores = [{name: value for name, value in row.items() if name.startswith("val/")} for row in rows]
    assert len(scores[0]) > 3
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_rank_whose_crops_have_no_valid_pixel_does_not_leave_the_other_waiting(tmp_path: Path) -> None:
    labels = {"train": [255, 1, 255, 0], "val": [1, 0]}
    _write(
        tmp_path,
        {split: [np.full((32, 64), value, dtype=np.uint8) for value in values] for split, values in labels.items()},
    )
    options = [
        *FOLDER, f"data.root={tmp_path}", "data.batch_size=1", "norms.freeze=statistics", "hydra.run.dir=run",
        "preflight=false", "loss=ohem", "trainer.devices=2", "trainer.strategy=ddp",
    ]  # fmt: skip
    ends = run_ranks(tmp_path, *options, ranks=2)
    assert [end.code for end in ends] == [0, 0], ends
    assert all(np.isfinite(_column(tmp_path / "run/metrics.csv", "train/loss")))


def _write(root: Path, splits: dict[str, list[np.ndarray]]) -> None:
    """Images that their labels (32,64) can be learned from."""
    for split, labels in splits.items():
        for index, label in enumerate(labels):
            noise = np.random.default_rng(index).integers(0, 99, (*label.shape, 3), dtype=np.uint8)
            for kind, picture in (("images", noise + 60 * (label == 1)[..., None]), ("masks", label)):
                path = root / kind / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), picture.astype(np.uint8))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _column(path: Path, name: str) -> list[float]:
    return [float(row[name]) for row in _rows(path) if row[name]]


def _last_row(path: Path) -> dict[str, str]:
    return _rows(path)[-1]
