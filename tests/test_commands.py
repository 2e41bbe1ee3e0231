"""Every entry point as a user calls it, on toy streets, in seconds."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import ROOT, call

TINY = ["data.length={train: 8, val: 3, test: 3}", "data.size=[32,64]", "transforms.crop_size=[32,64]"]
TINY += ["model.net.width_multiplier=0.25", "model.net.head_channels=16"]
QUIET = [
    "trainer.max_epochs=1",
    "callbacks.charts=null",
    "callbacks.panels=null",
    "callbacks.page=null",
    "worst_images=0",
]
FAST = [*TINY, "data.batch_size=4", "data.num_workers=0", "data.eval_batch_size=2", "trainer=cpu", "logger=none"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    with redirect_stdout(io.StringIO()) as said, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "orig_argv", ["python", "-m", "src.train", *FAST])
        call("train", *FAST, "trainer.max_epochs=2", f"hydra.run.dir={folder}/run")
    (folder / "run/console.txt").write_text(said.getvalue())
    return folder / "run"


def test_a_run_folder_holds_what_it_promises(trained: Path) -> None:
    config = OmegaConf.load(trained / "config.yaml")
    assert config["data"]["dataset"]["length"] == {"train": 8, "val": 3, "test": 3}
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert "-m src.train" in environment["command"]
    for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "scores_test.json", "validation.json"):
        assert (trained / name).is_file()
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 4  # three test images, and the panel
    assert page.index("Classes <small>test") and "bicyclist" in page
    for name in ("charts/learning_curves", "charts/per_class_iou", "charts/confusion_matrix", "panels/latest"):
        assert cv2.imread(str(trained / f"{name}.png")) is not None
    with (trained / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/miou"]]
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert all(0 <= float(row["val/miou"]) <= 1 for row in rows)


def test_the_console_ends_with_one_table(trained: Path) -> None:
    console = (trained / "console.txt").read_text()
    assert console.startswith("labels checked: train 8 of 8, val 3 of 3\n")
    for word in ("sky", "bicyclist", "mean IoU", "pixel accuracy", "time", "images/s", "best.ckpt", "panels"):
        assert word in console


def test_a_checkpoint_loads_with_weights_only_and_is_self_sufficient(trained: Path) -> None:
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["semseg"]["label_space"]["names"][0] == "sky"
    assert checkpoint["semseg"]["config"]["model"]["name"] == "bisenetv2"


def test_evaluate_repeats_the_test_score_of_the_run(trained: Path, tmp_path: Path) -> None:
    out = f"hydra.run.dir={tmp_path}/out"
    call("evaluate", f"ckpt={trained}/checkpoints/best.ckpt", "split=test", out, "data.num_workers=0")
    written = json.loads((trained / "scores_test.json").read_text())
    again = json.loads((tmp_path / "out/scores_test.json").read_text())
    assert again["confusion_matrix"] == written["confusion_matrix"]


def test_predict_keeps_names_and_folders_and_goes_on_after_a_broken_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos"
    (source / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (40, 60)), ("deep/b.jpg", (50, 33))):
        cv2.imwrite(str(source / name), generator.integers(0, 256, (*size, 3), dtype=np.uint8))
    (source / "broken.png").write_bytes(b"not a picture")
    cv2.imwrite(str(source / "tiny.png"), np.zeros((20, 20, 3), np.uint8))
    cv2.imwrite(str(source / "a.jpg"), np.zeros((36, 36, 3), np.uint8))
    with pytest.raises(SystemExit) as ending:
        call("predict", f"ckpt={trained}/checkpoints/best.ckpt", f"source={source}", f"out={tmp_path}/out")
    out, err = capsys.readouterr()
    assert ending.value.code == 1
    assert "4 of 5 images" in out
    assert "broken.png" in err
    assert "Traceback" not in err
    label = cv2.imread(str(tmp_path / "out/index/deep/b.png"), cv2.IMREAD_UNCHANGED)
    assert label.shape == (50, 33)
    assert label.max() < 11
    assert cv2.imread(str(tmp_path / "out/index/tiny.png"), cv2.IMREAD_UNCHANGED).shape == (20, 20)
    assert cv2.imread(str(tmp_path / "out/color/a.png.png")).shape == (40, 60, 3)  # a.jpg would be a.png too
    assert cv2.imread(str(tmp_path / "out/overlay/a.jpg.png")).shape == (36, 36, 3)


def test_init_from_says_what_was_loaded(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"init_from={trained}/checkpoints/best.ckpt", "model.net.head_channels=32", f"hydra.run.dir={tmp_path}"]
    call("train", *FAST, *QUIET, *given)
    said = capsys.readouterr().out
    assert "loaded" in said
    assert "misshaped" in said
    assert "head" in said


@pytest.mark.parametrize("size", [TINY, pytest.param([], marks=pytest.mark.slow)], ids=["small", "full"])
def test_debug_one_batch_runs_the_whole_loop(tmp_path: Path, size: list[str]) -> None:
    call("train", *size, "debug=one_batch", f"hydra.run.dir={tmp_path}/out")
    assert (tmp_path / "out/scores_test.json").is_file()


@pytest.mark.slow
def test_wandb_without_an_account_stays_offline_and_says_so(run, tmp_path: Path) -> None:
    env = {"WANDB_MODE": None, "WANDB_API_KEY": None, "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    done = run("train", *FAST, *QUIET, "logger=wandb", "hydra.run.dir=out", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wandb: not logged in") == 1
    assert list((tmp_path / "out/wandb").glob("offline-run-*"))


def test_tensorboard_is_an_option(tmp_path: Path) -> None:
    call("train", *FAST, *QUIET, "logger=tensorboard", f"hydra.run.dir={tmp_path}/out")
    assert list((tmp_path / "out").rglob("events.out.*"))


def test_help_helps(run) -> None:
    done = run("train", "--help")
    assert done.returncode == 0, done.stderr
    for word in ("src.train", "model:", "bisenetv2", "data.root", "optimizer.lr", "resume=last"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["evaluate", "predict", "autolabel", "doctor", "convert", "submit"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    call(command, "--help")
    assert f"src.{command}" in capsys.readouterr().out


def test_cfg_job_prints_the_config_without_importing_torch(run, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise RuntimeError('torch was imported')")
    done = run("train", "--cfg", "job", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout)["model"]["name"] == "bisenetv2"
