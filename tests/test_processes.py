"""Two processes score and train as one does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

TINY = [
    "data.length={train: 16, val: 5, test: 5}", "data.size=[32,64]", "transforms.crop_size=[32,64]",
    "data.num_workers=0", "data.eval_batch_size=2", "trainer=cpu", "logger=none", "callbacks.charts=null",
    "callbacks.panels=null", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
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
