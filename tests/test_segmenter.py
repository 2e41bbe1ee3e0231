"""The Python interface: a checkpoint segments arrays as src.predict segments files, and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

import src
from src.data.label_space import LabelSpace
from src.errors import UserError
from src.segmenter import Segmentation, load
from tests.conftest import NET, ROOT, SMALL, call, save_untrained


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of two sizes."""
    folder, random = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    for name, size in (("a", (64, 96)), ("b", (50, 33))):
        cv2.imwrite(str(folder / f"{name}.png"), random.integers(0, 256, (*size, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("trained", "applied"),
    [
        (SMALL, []),
        (SMALL, ["inference/window=sliding", "inference.window.size=[32,48]", "inference.window.overlap=0.5"]),
        ([*SMALL, "model/scales=hierarchical"], ["inference.flip=true"]),
        ([*SMALL, "data.eval_long_edge=40"], ["inference.scales=[0.5,1.0]"]),
        ([*NET, "experiment=binary", "data.root=x"], []),
    ],
    ids=["one scale", "windows", "hierarchical", "scored smaller", "binary"],
)
def test_it_gives_what_the_command_writes(images: Path, tmp_path: Path, trained: list[str], applied: list[str]) -> None:
    space = LabelSpace(["rest", "thing"], [(0, 0, 0), (255, 0, 0)]) if "experiment=binary" in trained else None
    ckpt = save_untrained(tmp_path / "net.ckpt", *trained, space=space)
    where = [f"source={images}", f"out={tmp_path}/out", "save=[index,confidence,overlay]", "device=cpu"]
    call("predict", f"ckpt={ckpt}", *where, *applied)
    net = load(ckpt, *applied, device="cpu")
    files = [images / "a.png", images / "b.png"]
    for path, found in zip(files, net.predict(files, confidence=True), strict=True):
        written = {
            kind: cv2.imread(str(tmp_path / f"out/{kind}/{path.name}"), cv2.IMREAD_UNCHANGED)
            for kind in ("index", "confidence", "overlay")
        }
        assert np.array_equal(found.label, written["index"])
        assert np.array_equal(found.confidence, written["confidence"])
        assert np.array_equal(found.overlay(), written["overlay"][..., ::-1])
        found.save(tmp_path / "saved.png")
        assert (tmp_path / "saved.png").read_bytes() == (tmp_path / f"out/index/{path.name}").read_bytes()


def test_an_image_may_have_any_form(untrained: Path, images: Path) -> None:
    net = load(untrained, device="cpu")
    path = images / "b.png"
    array = cv2.imread(str(path))[..., ::-1]
    first = net.predict(path)
    assert isinstance(first, Segmentation)
    assert first.confidence is None
    for other in (str(path), array, torch.from_numpy(array.copy()).permute(2, 0, 1)):
        assert np.array_equal(net.predict(other).label, first.label)
    assert np.array_equal(net.scores(array).argmax(0), first.label)
    areas = first.areas()
    assert tuple(areas) == net.classes
    assert sum(areas.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.float32), torch.zeros(4, 4, 3), "missing.png", None, 5]
)
def test_what_is_no_image_is_refused(untrained: Path, image: object) -> None:
    with pytest.raises(UserError, match=r"is no image; give|missing\.png"):
        load(untrained, device="cpu").predict(image)


def test_options_that_cannot_be_are_refused(untrained: Path) -> None:
    for line, words in (("inference.flip=5", "must be true or false"), ("inference.flp=true", "flp")):
        with pytest.raises(UserError, match=words):
            load(untrained, line)


def test_nothing_is_left_behind(untrained: Path) -> None:
    before = sorted(ConfigStore.instance().repo)
    for _ in range(2):
        load(untrained, device="cpu")
        assert not GlobalHydra.instance().is_initialized()
        assert sorted(ConfigStore.instance().repo) == before


def test_threads_load_one_after_the_other(untrained: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: len(load(untrained, device="cpu").classes), range(6)))
    assert len(set(found)) == 1
    assert not GlobalHydra.instance().is_initialized()


PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8").split("\n## ")
TRAINING = [section for section in PAGE if section.startswith("Train")]


def _snippets(sections: list[str]) -> list[str]:
    return re.findall(r"```python\n(.*?)```", "\n".join(sections), re.DOTALL)


def _run(snippets: list[str]) -> None:
    exec("\n".join(["import src as semseg", *snippets]).replace("import semseg", ""), {})


def test_the_page_runs_as_it_is_written(
    untrained: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/train/street/checkpoints").mkdir(parents=True)
    shutil.copy(untrained, tmp_path / "runs/train/street/checkpoints/best.ckpt")
    images.rename(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    snippets = _snippets([section for section in PAGE if section not in TRAINING])
    assert len(snippets) >= 4
    _run(snippets)
    assert (tmp_path / "a_label.png").is_file()


@pytest.mark.slow
def test_its_training_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = _snippets(TRAINING)
    assert len(snippets) >= 2
    _run(snippets)
    assert "model=bisenet: there is no such option. Did you mean 'bisenetv2'?" in capsys.readouterr().out


def test_what_there_is() -> None:
    assert src.load is load
    assert {"bisenetv2", "hrnet_ocr_hierarchical"} <= {*src.list_models()}
    assert {"camvid", "folder"} <= {*src.list_datasets()}
    with pytest.raises(AttributeError, match="src has no loda"):
        src.loda  # noqa: B018
