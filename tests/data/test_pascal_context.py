"""PASCAL Context in 59 and 60 classes, from published .mat files and from converted PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from src.data.sets.pascal_context import pascal_context
from src.errors import UserError
from tests.conftest import SHARED

LISTED = {"train": ["2008_000002"], "val": ["2008_000003"]}


def write_kit(root: Path, *, lists: str = "Main") -> Path:
    """VOC 2010 with images of four columns, and its lists."""
    kit = root / "VOCdevkit" / "VOC2010"
    (kit / "JPEGImages").mkdir(parents=True, exist_ok=True)
    (kit / "ImageSets" / lists).mkdir(parents=True)
    for split, stems in LISTED.items():
        (kit / "ImageSets" / lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            Image.new("RGB", (4, 1)).save(kit / "JPEGImages" / f"{stem}.jpg")
    return kit


def write_mat(folder: Path, stem: str, raw: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{stem}.mat", {"LabelMap": np.array([raw], np.uint16)}, do_compression=True)


def write_png(folder: Path, stem: str, stored: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([stored], np.uint8)).save(folder / f"{stem}.png")


def label(root: Path, classes: int = 59) -> list[int]:
    source = pascal_context(root=root, split="train", classes=classes)
    assert [source.name(index) for index in range(len(source))] == LISTED["train"]
    return source.read(0)[1][0].tolist()


@pytest.mark.parametrize("beside", [True, False])
def test_raw_labels_become_classes_and_the_rest_background(tmp_path: Path, beside: bool) -> None:
    """2 is aeroplane and 258, which would be 2 in 8 bits, motorbike; 458 is wood and 1 is not among the 59."""
    kit = write_kit(tmp_path)
    write_mat(kit / "trainval" if beside else tmp_path / "trainval", "2008_000002", [2, 458, 1, 258])
    assert label(tmp_path) == [0, 58, 255, 33]
    assert label(tmp_path, classes=60) == [1, 59, 0, 34]


def test_converted_labels_are_shifted_for_59_and_kept_for_60(tmp_path: Path) -> None:
    kit = write_kit(tmp_path, lists="SegmentationContext")
    write_png(kit / "SegmentationClassContext", "2008_000002", [0, 1, 59, 30])
    assert label(tmp_path) == [255, 0, 58, 29]
    assert label(tmp_path, classes=60) == [0, 1, 59, 30]


def test_lists_of_a_conversion_go_first(tmp_path: Path) -> None:
    """A conversion in wide use lacks a few images that the lists of VOC have."""
    kit = write_kit(tmp_path, lists="SegmentationContext")
    (kit / "ImageSets" / "Main").mkdir()
    (kit / "ImageSets" / "Main" / "train.txt").write_text("2008_000002\n2008_000009\n")
    write_png(kit / "SegmentationClassContext", "2008_000002", [0] * 4)
    assert len(label(tmp_path)) == 4


def test_errors_name_archive_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"VOC2010/JPEGImages: folder not found; .*VOCtrainval_03-May-2010\.tar"):
        pascal_context(root=tmp_path, split="train")
    with pytest.raises(UserError, match=r"no split 'test'; use train, val\."):
        pascal_context(root=tmp_path, split="test")
    with pytest.raises(UserError, match=r"data\.num_classes=33: PASCAL Context has 59 classes, or 60"):
        pascal_context(root=tmp_path, split="train", classes=33)
    kit = write_kit(tmp_path)
    with pytest.raises(UserError, match=r"/trainval: folder not found; .*trainval\.tar\.gz.*SegmentationClassContext"):
        pascal_context(root=tmp_path, split="train")
    write_mat(tmp_path / "trainval", "2008_000002", [2, 3, 4, 460])
    with pytest.raises(UserError, match=r"2008_000002\.mat: values 2\.\.460 .* leave 0\.\.459"):
        pascal_context(root=tmp_path, split="train")
    with pytest.raises(UserError, match=r"2008_000003\.mat: label not found \(1 of 1 .*trainval\.tar\.gz"):
        pascal_context(root=tmp_path, split="val")
    write_png(kit / "SegmentationClassContext", "2008_000002", [0, 1, 2, 60])
    with pytest.raises(UserError, match=r"2008_000002\.png: label value 60 "):
        pascal_context(root=tmp_path, split="train").read(0)
    (kit / "ImageSets" / "Main" / "val.txt").unlink()
    with pytest.raises(UserError, match=r"Main/val\.txt: list of files not found; .*VOCtrainval_03"):
        pascal_context(root=tmp_path, split="val")


@pytest.mark.parametrize("classes", [59, 60])
def test_table_equals_the_published_one(tmp_path: Path, classes: int) -> None:
    yaml = pytest.importorskip("yaml")
    path = SHARED / "datasets" / f"pascal_context{classes}.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SEMSEG_SHARED to the folder that holds datasets/")
    facts = yaml.safe_load(path.read_text())
    raw = facts["raw_id_to_train_id"]
    kit = write_kit(tmp_path)
    Image.new("RGB", (460, 1)).save(kit / "JPEGImages" / "2008_000002.jpg")
    write_mat(tmp_path / "trainval", "2008_000002", list(range(460)))
    space = pascal_context(root=tmp_path, split="train", classes=classes).label_space
    assert list(space.names) == facts["classes"]
    assert [list(color) for color in space.colors] == facts["palette"]
    assert dict(space.file_values) == facts["converted_png_to_train_id"]
    assert label(tmp_path, classes) == [raw.get(value, facts["default_for_unlisted_raw_id"]) for value in range(460)]
