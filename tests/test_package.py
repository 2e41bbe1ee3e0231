"""The wheel, installed in a folder of its own: the commands, the Python interface, and no package called src."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.build.moved_names import current_name
from src.cli.completion import completions
from src.data.label_space import LabelSpace
from src.exporting.bundle_writer import write_bundle
from tests.conftest import NET, ROOT, SMALL, call, save_untrained

Done = subprocess.CompletedProcess
TINY = [
    *SMALL,
    "data.batch_size=2",
    "data.size=[32,64]",
    "transforms.crop_size=[32,64]",
    "data.num_workers=0",
    "trainer=cpu",
]


def _pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, words), "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(command, check=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-build-isolation", "-w", folder, ROOT)
    return next(folder.glob("semseg-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """Runs Python with the wheel's package, in an empty folder."""
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    _pip("install", "--no-index", "--target", site, wheel)

    def run(*words: str, path: str = "") -> Done:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), path])), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *words], cwd=work, env=env, capture_output=True, text=True, timeout=600, check=False
        )

    return run


@pytest.mark.slow
def test_the_wheel_is_small_and_holds_one_package(wheel: Path) -> None:
    assert wheel.stat().st_size < 2e6
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.split("/")[0] for name in names} == {"semseg", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    assert {"semseg/py.typed", "semseg/conf/train.yaml"} <= {*names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "applied"),
    [
        (SMALL, []),
        (SMALL, ["inference/window=sliding", "inference.window.size=[32,48]", "inference.window.overlap=0.5"]),
        ([*SMALL, "model/scales=hierarchical"], []),
        ([*NET, "experiment=binary", "data.root=x"], []),
    ],
    ids=["single", "windows", "hierarchical", "binary"],
)
def test_commands_and_python_give_what_a_clone_gives(
    installed: Callable[..., Done], tmp_path: Path, trained: list[str], applied: list[str]
) -> None:
    space = LabelSpace(["rest", "thing"], [(0, 0, 0), (255, 0, 0)]) if "experiment=binary" in trained else None
    untrained = save_untrained(tmp_path / "net.ckpt", *trained, space=space)
    images = tmp_path / "in"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    where = [f"ckpt={untrained}", f"source={images}", "save=[index,confidence]", "device=cpu", *applied]
    done = installed("-m", "semseg", "predict", *where, f"out={tmp_path}/there")
    assert done.returncode == 0, done.stderr
    call("predict", *where, f"out={tmp_path}/here")
    for kind in ("index", "confidence"):
        assert filecmp.cmp(tmp_path / f"there/{kind}/a.png", tmp_path / f"here/{kind}/a.png", shallow=False)
    bundle = write_bundle(untrained, tmp_path / "net.semseg.zip")
    code = f"""import semseg
for name in ({str(untrained)!r}, {str(bundle)!r}):
    semseg.load(name, *{applied}, device="cpu").predict({str(images / "a.png")!r}).save(name + ".png")"""
    done = installed("-c", code)
    assert done.returncode == 0, done.stderr
    for path in (untrained, bundle):
        assert filecmp.cmp(f"{path}.png", tmp_path / "here/index/a.png", shallow=False)


@pytest.mark.slow
def test_a_net_is_trained_there_and_applied_here(installed: Callable[..., Done], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = installed("-m", "semseg", "train", *TINY, "trainer.max_steps=1", "logger=none", f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    assert "_target_: src.models" in (run / "config.yaml").read_text()
    call("evaluate", f"ckpt={run}", "data.num_workers=0", "trainer=cpu", f"hydra.run.dir={tmp_path}/scores")


@pytest.mark.slow
def test_what_it_says_can_be_typed(installed: Callable[..., Done], tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    said = installed("-m", "semseg", "--help").stdout
    assert "semseg train      Train a net\n" in said
    said = installed("-m", "semseg", "train", "--help").stdout
    assert "semseg train --help optimizer" in said
    assert "src." not in said
    for words, remedy in (
        (["trian"], "Did you mean 'train'?"),
        (["evaluate", f"ckpt={tmp_path}/other.ckpt"], "semseg convert"),
    ):
        refused = installed("-m", "semseg", *words)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert remedy in refused.stderr
        assert "src." not in refused.stderr
    refused = installed("-c", f"import semseg; semseg.load({str(tmp_path / 'other.ckpt')!r})")
    assert "semseg convert" in refused.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_two_names_do_not_meet_in_a_process(installed: Callable[..., Done]) -> None:
    done = installed("-c", "import src, semseg", path=str(ROOT))
    assert done.stderr.strip().splitlines()[-1].startswith("ImportError: this process has imported the project as src")


def test_either_name_may_be_written_in_a_config() -> None:
    assert current_name("semseg.models.FCN") == "src.models.FCN"
    assert current_name("semseg.data.voc.voc") == "src.data.sets.voc.voc"
    assert current_name("semsegments.FCN") == "semsegments.FCN"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("semseg tr", ["train"]),
        ("semseg train mod", ["model.", "model/scales="]),
        ("semseg train model=bisenetv2_m", ["bisenetv2_mmseg", "bisenetv2_mobilenetv2"]),
        ("semseg train optimizer.l", ["optimizer.lr="]),
        ("semseg predict inference/w", ["inference/window="]),
        ("semseg predict source=ph", []),
        ("semseg ../x y", []),
        ("semseg", []),
        ("", []),
    ],
)
def test_words_are_completed(line: str, found: list[str]) -> None:
    said = completions("bash", line, ("train", "predict"))
    assert all(any(each.startswith(start) for each in said) for start in found)
    assert bool(said) == bool(found)
    whole = completions("zsh", line, ("train", "predict"))
    assert whole == ([f"model={each}" for each in said] if "model=" in line else said)
