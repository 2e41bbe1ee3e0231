"""Files for the Cityscapes server: whole or not at all, and never of two nets."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.label_space import LabelSpace
from src.data.sets.cityscapes import TRAIN_ID_TO_RAW_ID, label_space
from src.files.atomic import locked
from src.training.module import SegmentationModule
from tests.conftest import files_of_at_most
from tests.test_evaluate import _call, _checkpoint

NAMES = [f"{city}_00000{index}_000019" for index, city in enumerate(("berlin", "bonn", "mainz"))]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _checkpoint(tmp_path_factory.mktemp("net") / "net.ckpt", label_space(), "data=cityscapes")


@pytest.fixture
def own(net: Path, tmp_path: Path) -> list[str]:
    """Three test images, which come without labels."""
    for index, name in enumerate(NAMES):
        path = tmp_path / f"data/leftImg8bit/test/{name.split('_')[0]}/{name}_leftImg8bit.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(path)
    places = [f"data.root={tmp_path}/data", f"out={tmp_path}/sent.zip", "device=cpu"]
    return [f"ckpt={net}", *places, "images=3", "size=[64,40]"]


def test_label_ids_of_every_image_are_packed(own: list[str], net: Path, tmp_path: Path) -> None:
    assert "3 label files (0 of them from before)" in _call("submit", *own)
    with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
        assert archive.namelist() == [f"{name}_pred_labelIds.png" for name in NAMES]
        for name in archive.namelist():
            with archive.open(name) as file, Image.open(file) as image:
                assert image.mode == "L" and image.size == (64, 40)
                assert {*np.unique(np.asarray(image)).tolist()} <= {*TRAIN_ID_TO_RAW_ID}
    assert not list(tmp_path.rglob("*.partial"))


def test_a_stopped_run_goes_on_and_gives_the_same_archive(
    own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _call("submit", *own)
    archive, whole = tmp_path / "sent.zip", (tmp_path / "sent.zip").read_bytes()
    archive.unlink()
    pictures = [tmp_path / f"sent/{name}_pred_labelIds.png" for name in NAMES]
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:-20])
    seen, predict = [], SegmentationModule.predict_label
    monkeypatch.setattr(SegmentationModule, "predict_label", lambda *given: seen.append(0) or predict(*given))
    assert "1 of them from before" in _call("submit", *own)
    assert len(seen) == 2 and archive.read_bytes() == whole


def test_what_the_server_would_refuse_is_not_packed(own: list[str], tmp_path: Path) -> None:
    def fails(*overrides: str) -> str:
        return _call("submit", *own, *overrides, fails=True)

    assert "has 3 images" in (line := fails("images=1525")) and "images=null" in line
    assert "is 64x40 and the server wants 2048x1024" in fails("size=[2048,1024]")
    assert "must end in .zip" in fails(f"out={tmp_path}/sent")
    _call("submit", *own)
    (tmp_path / "sent.zip").unlink()
    assert "made with another inference" in fails("inference.flip=true")
    assert "made with another output_stride" in fails("output_stride=8")
    spare = tmp_path / "sent/bonn_000009_000019.png"
    Image.fromarray(np.zeros((40, 64), np.uint8)).save(spare)
    assert "belongs to no image of the split" in fails()
    spare.unlink()
    (tmp_path / "sent/submission.json").unlink()
    assert "files that src.submit did not write" in fails()
    assert not (tmp_path / "sent.zip").exists()


def test_a_net_of_other_classes_is_refused(own: list[str], net: Path, tmp_path: Path) -> None:
    content = torch.load(net, weights_only=True)
    space = label_space()
    renamed = LabelSpace(["street", *space.names[1:]], space.colors)
    content["semseg"]["label_space"] = json.loads(json.dumps(renamed.to_dict()))
    torch.save(content, tmp_path / "other.ckpt")
    line = _call("submit", *own, f"ckpt={tmp_path}/other.ckpt", fails=True)
    assert "among them 'street'" in line and "the 19 of Cityscapes" in line


def test_a_replaced_image_is_labelled_again(own: list[str], tmp_path: Path) -> None:
    _call("submit", *own)
    whole = (tmp_path / "sent.zip").read_bytes()
    image = tmp_path / f"data/leftImg8bit/test/bonn/{NAMES[1]}_leftImg8bit.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(image)
    os.utime(image, (1, 1))  # of the same size, and older
    assert "(2 of them from before)" in _call("submit", *own)
    assert (tmp_path / "sent.zip").read_bytes() != whole


def test_an_archive_appears_whole_and_replaces_no_other(own: list[str], tmp_path: Path) -> None:
    (tmp_path / "sent.zip").write_bytes(b"downloaded with much patience")
    assert "sent.zip: is there already, and src.submit did not write it" in _call("submit", *own, fails=True)
    assert (tmp_path / "sent.zip").read_bytes() == b"downloaded with much patience"
    (tmp_path / "sent.zip").unlink()
    _call("submit", *own)
    (tmp_path / "sent.zip").unlink()
    with files_of_at_most(800):
        line = _call("submit", *own, fails=True)
    assert "sent.zip: cannot be written (File too large)" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "sent"]
    with locked(tmp_path / "sent", "writing to it"):
        assert "sent: another process is writing to it" in _call("submit", *own, fails=True)
    assert "3 label files (3 of them from before)" in _call("submit", *own)
    (tmp_path / "sent/submission.json").write_text("{")
    assert "submission.json: is broken" in _call("submit", *own, fails=True)
