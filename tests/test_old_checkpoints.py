"""A run that commit b375178 made is still scored, resumed, exported and used, and names of that time still lead on.

``tests/golden/run_of_b375178`` holds it with what that commit itself scored, and wrote after ``trainer.max_epochs=2``.
"""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.build.moved_names import MOVED, current_name
from src.cli.command import command
from src.reports import console
from tests.conftest import ROOT

FAST = ("bootstrap=0", "worst_images=0", "boundary=false")
GOLDEN = ROOT / "tests/golden/run_of_b375178"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run in a working folder of its own, on one thread, as it was made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "draw_scores", lambda *_: None)  # takes longer than all the rest
    shutil.copytree(GOLDEN, "old", ignore=shutil.ignore_patterns("*_resumed*", "scores_*"))
    shutil.copy("old/checkpoints/last.ckpt", "old/checkpoints/best.ckpt")  # its only epoch was its best
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Path("old")
    torch.set_num_threads(threads)


def _call(monkeypatch: pytest.MonkeyPatch, name: str, *overrides: str) -> None:
    monkeypatch.setattr("sys.argv", [name, *overrides])
    command(name)


def _scores(path: Path) -> dict:
    return json.loads(path.read_text())


def _check_scores(found: dict, expected: dict) -> None:
    assert found["miou"] == pytest.approx(expected["miou"], abs=1e-6)
    assert found["iou"] == pytest.approx(expected["iou"], abs=1e-6)
    assert found["confusion_matrix"] == expected["confusion_matrix"]


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(cell or "nan") for name, cell in row.items()} for row in csv.DictReader(file)]


def test_it_scores_as_it_did(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _call(monkeypatch, "evaluate", f"ckpt={old}", "split=test", "hydra.run.dir=scored", *FAST)
    _check_scores(_scores(Path("scored/scores_test.json")), _scores(GOLDEN / "scores_test.json"))


def test_it_goes_on_as_it_did(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _call(monkeypatch, "train", f"resume={old}", "trainer.max_epochs=2", "worst_images=0", "~callbacks.charts")
    rows, expected = _rows(old / "metrics.csv"), _rows(GOLDEN / "metrics_resumed.csv")
    assert len(rows) == len(expected) == 4
    for found, wanted in zip(rows, expected, strict=True):
        assert {name: found[name] for name in wanted} == pytest.approx(
            wanted, rel=1e-5, abs=5e-4, nan_ok=True
        )  # a few pixels
    _check_scores(_scores(old / "scores_test.json"), _scores(GOLDEN / "scores_resumed.json"))


def _predicted(old: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """An image, RGB, and the label that ``src.predict`` writes for it."""
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    cv2.imwrite("image.png", image[..., ::-1])
    _call(monkeypatch, "predict", f"ckpt={old}", "source=image.png", "out=predicted", "save=index", "device=cpu")
    return image, cv2.imread("predicted/index/image.png", cv2.IMREAD_UNCHANGED)


def test_it_predicts(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, label = _predicted(old, monkeypatch)
    assert label.shape == (64, 128)
    assert label.max() < 11


@pytest.mark.slow
def test_it_is_exported(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, label = _predicted(old, monkeypatch)
    options = ["format=pt2", "out=net.pt2", "size=[64,128]", "check_images=1", "source=image.png"]
    _call(monkeypatch, "export", f"ckpt={old}", *options)
    net = torch.export.load("net.pt2").module()
    assert (net(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))[0].numpy() == label).all()


@pytest.mark.parametrize("old", sorted(MOVED))
def test_modules_that_moved_are_where_the_table_says(old: str) -> None:
    importlib.import_module(MOVED[old])
    assert current_name(f"{old}.Part") == f"{MOVED[old]}.Part"
    assert MOVED[old] not in MOVED


def test_a_command_line_may_have_a_name_of_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["data=toy_streets", "data.dataset._target_=src.data.toy_streets.toy_streets", "data.length.train=1"]
    monkeypatch.setattr("sys.argv", ["shards", *overrides, "split=train", "out=shards"])
    command("shards")
    assert list(Path("shards").rglob("*.tar"))
