"""Commands in Python: as on the command line, with objects returned and nothing left behind."""

from __future__ import annotations

import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import src as semseg
from src.cli import in_python
from src.commands import train as train_command
from src.training.module import SegmentationModule
from tests.conftest import NET, ROOT, SMALL, call, save_untrained


def _state() -> list[Any]:
    return [
        sorted(ConfigStore.instance().repo),
        GlobalHydra.instance().hydra,
        HydraConfig.instance().cfg,
        {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        list(sys.argv),
        Path.cwd(),
        list(warnings.filters),
        {name: logging.getLogger(name).level for name in ("", "pytorch_lightning")},
    ]


@contextmanager
def nothing_left() -> Iterator[None]:
    """What is run in the block must leave the process as it was."""
    before = _state()
    yield
    assert _state() == before


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def here(apart: Path) -> Iterator[Path]:
    """A working folder; whatever a test runs there must leave the process as it was."""
    with nothing_left():
        yield apart


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[DictConfig], Any]], None]:
    """Puts a function in the place of the work of ``train``."""
    return lambda task: monkeypatch.setattr(train_command, "train", task)


def test_the_import_is_light() -> None:
    code = "import sys, src; print(*(name for name in ('torch', 'hydra', 'cv2', 'numpy') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_offered_is_there_and_documented() -> None:
    assert sorted(semseg.__all__) == sorted(dir(semseg))
    for name in semseg.__all__:
        assert inspect.getdoc(getattr(semseg, name)), name
    for name in ("train", "evaluate", "doctor"):
        assert inspect.isfunction(getattr(semseg, name))


def test_a_run_gets_its_folder_and_its_options(here: Path, trains: Callable[..., None]) -> None:
    seen: list[tuple[int, Path]] = []
    trains(lambda cfg: seen.append((cfg.seed, Path(cfg.run_dir))))
    runs = [semseg.train(*SMALL, f"seed={seed}") for seed in (1, 2)]
    assert seen == [(1, runs[0].folder), (2, runs[1].folder)]
    assert runs[0].folder != runs[1].folder
    assert all(run.folder.parent == here / "runs/train" for run in runs)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["model=bisenet"], "Did you mean 'bisenetv2'"),
        (["optimizer.lr=-1"], r"optimizer\.lr=-1"),
        (["optimizer.lr=0.1,0.2"], "one value is wanted"),
        (["trainer.devices=2"], "one process on one device"),
        (["--multirun"], "is for the command line"),
        (["hydra.mode=MULTIRUN"], "is for the command line"),
        (["resume=nowhere"], "not found; name the folder of a run"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_made(
    here: Path, trains: Callable[..., None], line: list[str], words: str
) -> None:
    trains(lambda _: pytest.fail("it ran"))
    with pytest.raises(semseg.UserError, match=words):
        semseg.train(*SMALL, *line)
    assert not list(here.glob("runs/train/*"))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (semseg.UserError("a.png: broken; remove it"), semseg.UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(1), KeyboardInterrupt),  # what Lightning makes of Ctrl-C
        (SystemExit(143), SystemExit),  # of SIGTERM, which asks the process to end
        (ZeroDivisionError("a fault"), ZeroDivisionError),
    ],
    ids=repr,
)
def test_how_a_run_ends_is_how_the_call_ends(
    here: Path, trains: Callable[..., None], raised: BaseException, expected: type[BaseException]
) -> None:
    def ends(_: DictConfig) -> None:
        os.environ["LEFT"] = "1"
        logging.getLogger("pytorch_lightning").setLevel(logging.CRITICAL)
        raise raised

    trains(ends)
    with pytest.raises(expected) as caught:
        semseg.train(*SMALL)
    assert caught.type is expected
    if isinstance(raised, semseg.UserError):
        assert str(caught.value) == str(raised)


def test_hydra_of_the_caller_stays_as_it_is(here: Path, trains: Callable[..., None]) -> None:
    trains(lambda _: None)
    ckpt = save_untrained(here / "net.ckpt", *SMALL)
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        semseg.train(*SMALL)
        semseg.load(ckpt, device="cpu")
        assert hydra.compose("train", ["seed=7"]).seed == 7


@pytest.mark.slow
def test_scores_are_those_that_the_command_writes(apart: Path, untrained: Path) -> None:
    line = [f"ckpt={untrained}", "bootstrap=10", "boundary=false", "data.num_workers=0", "worst_images=0"]
    call("evaluate", *line, "hydra.run.dir=told")
    with nothing_left():
        found = semseg.evaluate(*line)
    told = json.loads((apart / "told/scores_val.json").read_text())
    own = json.loads((found.folder / "scores_val.json").read_text())
    assert {**own, "protocol": None} == {**told, "protocol": None}
    assert found.miou == told["miou"]
    assert found.iou == {name: np.nan if iou is None else iou for name, iou in told["iou"].items()}
    assert found.confusion.tolist() == told["confusion_matrix"]
    assert found.interval == tuple(told["interval_over_images"]["miou"])
    assert found.protocol["checkpoint"] == told["protocol"]["checkpoint"]
    assert len(found.images()) == 2
    assert {file.name for file in found.folder.iterdir()} == {file.name for file in (apart / "told").iterdir()}
    with nothing_left():
        compared = semseg.compare("told", found.folder)
    assert (compared.images, compared.difference, compared.p_value) == (2, 0, 1)
    assert semseg.Run.read("told").scores.miou == told["miou"]
    with pytest.raises(semseg.UserError, match=r"semseg\.compare"):
        semseg.evaluate("compare=[a,b]")
    with pytest.raises(semseg.UserError, match="holds no results"):
        semseg.Run.read(apart)


def test_the_doctor_returns_what_it_prints(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*NET, "data=toy_streets", "data.length={train: 2, val: 2}", "measure=false", "data.batch_size=1"]
    found = semseg.doctor(*line)
    said = capsys.readouterr().out
    assert found.ok
    assert said.strip().endswith(found.command)
    assert all(note.removeprefix("train: ") in said for note in found.notes)
    assert found.splits["train"].total == 2
    assert "road" in found.classes


def test_the_doctor_says_what_is_wrong(here: Path, write_pair: Callable[..., Path]) -> None:
    for index in range(5):
        write_pair(f"{index}", label=np.full((40, 40), 7 * (index == 2), np.uint8))
    found = semseg.doctor("data=folder", f"data.root={here}", "data.classes=[a,b]", "measure=false")
    assert not found.ok
    assert found.command is None
    assert any("7" in problem for problem in found.problems)


@pytest.mark.slow
def test_two_trainings_in_one_process(apart: Path) -> None:
    line = [*SMALL, "debug=one_batch"]
    with nothing_left():
        runs = [semseg.train(*line) for _ in range(2)]
    call("train", *line, "hydra.run.dir=told")
    told = json.loads((apart / "told/scores_test.json").read_text())
    for run in runs:
        assert run.scores.split == "test"
        assert run.scores.confusion.tolist() == told["confusion_matrix"]
        assert {file.name for file in run.folder.iterdir()} == {file.name for file in (apart / "told").iterdir()}
        assert run.history["val/miou"].shape == (2, 1)
        assert run.best == run.history["val/miou"][1, 0]
    net = runs[1].load(device="cpu")
    assert net.predict(np.zeros((64, 64, 3), np.uint8)).label.shape == (64, 64)
    assert "mean IoU (test)" in runs[0]._repr_html_()


@pytest.mark.slow
def test_ctrl_c_in_a_step_ends_the_training_and_is_heard_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SegmentationModule, "training_step", pressed)
    monkeypatch.setattr(train_command, "rehearse", lambda *_, **__: None)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        semseg.train(*SMALL, "debug=one_batch")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_task_of_another_command_gets_its_config(here: Path, untrained: Path) -> None:
    def where(cfg: DictConfig) -> str:
        return cfg.ckpt

    assert in_python.run("evaluate", [f"ckpt={untrained}"], where) == str(untrained)
