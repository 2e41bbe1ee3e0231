"""What a folder is answered with whose images and masks do not pair, and that the options offered do pair them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.folder.hints import pairing, skipped
from src.data.folder.source import folder
from src.data.source import FileSource
from src.errors import UserError


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)


def read(root: Path, **options: str) -> FileSource:
    return folder(root=root, split="train", classes=["a"], fractions={"train": 1.0}, **options)


def error(root: Path, **options: str) -> str:
    with pytest.raises(UserError) as caught:
        read(root, **options)
    return str(caught.value)


def offered(text: str) -> dict[str, str]:
    return dict(re.findall(r"data\.(\w+)=([^\s;]+)", text))


@pytest.mark.parametrize(
    ("image", "mask", "image_suffix", "mask_suffix"),
    [
        ("{}_image", "{}_annotation", "_image", "_annotation"),
        ("{}_image", "{}_imask", "_image", "_imask"),
        ("{}", "{}_mask", "", "_mask"),
        ("{}_rgb", "{}", "_rgb", ""),
        ("f/{}.a", "f/{}.b", ".a", ".b"),
    ],
)
def test_endings_that_pair(image: str, mask: str, image_suffix: str, mask_suffix: str) -> None:
    numbers = [f"{i:03}" for i in range(1, 12)]
    found = pairing([image.format(n) for n in numbers], [mask.format(n) for n in numbers])
    assert found == (image_suffix, mask_suffix, 11)


def test_names_that_no_ending_pairs() -> None:
    assert pairing([f"img_{i}" for i in range(9)], [f"mask_{i}" for i in range(9)]) is None
    assert pairing([f"a{i}" for i in range(9)], [f"a{i}" for i in range(20, 29)]) is None


def test_names_that_differ_are_shown_and_what_is_offered_pairs_them(tmp_path: Path) -> None:
    for number in range(101, 105):
        write(tmp_path / f"images/{number}_image.png")
        write(tmp_path / f"masks/{number}_vegetation.png")
        write(tmp_path / f"annotations/{number}_annotation.png")
    text = error(tmp_path)
    assert "images are named 101_image.png, 102_image.png" in text
    assert "masks 101_vegetation.png, 102_vegetation.png" in text
    first, _, second = text.partition("annotations/ would pair 4 by ")
    assert offered(first) == {"image_suffix": "_image", "mask_suffix": "_vegetation"}
    assert len(read(tmp_path, **offered(first)).pairs) == 4
    assert offered(second)["mask_dir"] == "annotations"
    assert read(tmp_path, **offered(second)).pairs[0].label.name == "101_annotation.png"


def test_another_folder_stands_in_for_the_missing_one(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"images/{number}.jpg")
        write(tmp_path / f"labels/gt/{number}.png")
    text = error(tmp_path)
    assert "masks: folder of masks not found; labels/gt/ would pair 4 images by data.mask_dir=labels/gt" in text
    assert len(read(tmp_path, **offered(text)).pairs) == 4


@pytest.mark.parametrize(
    ("path", "content", "name"),
    [
        ("annotations/instances.json", json.dumps({"info": {}, "images": [], "annotations": []}), "COCO"),
        ("annotations.xml", '<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>', "CVAT"),
        ("labels/1.txt", "0 0.5 0.5 0.25 0.1\n", "YOLO"),
        ("images/1.json", json.dumps({"version": "5", "shapes": [], "imagePath": "1.jpg"}), "LabelMe"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, path: str, content: str, name: str) -> None:
    write(tmp_path / "images/1.jpg")
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(content)
    text = error(tmp_path)
    assert f"there are labels in {name} ({tmp_path / path}), a format that is not read" in text
    assert "Did you mean 'images'" not in text
    parent = Path(path).parent.as_posix()
    if parent == "labels":
        assert f"there are no masks but {name} ({tmp_path / path})" in error(tmp_path, mask_dir=parent)


def test_photos_are_never_taken_for_masks(tmp_path: Path) -> None:
    write(tmp_path / "1.jpg")
    (tmp_path / "1.json").write_text('{"shapes": []}')
    text = error(tmp_path, image_dir=".", mask_dir=".")
    assert "each photo would be its own mask; set data.mask_suffix" in text
    assert "LabelMe" in text
    write(tmp_path / "images/1.jpg")
    assert "Did you mean" not in error(tmp_path)


def test_suffixes_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("1.heic", "2.HEIC", "3.cr2", "notes.txt", ".hidden"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x")
    assert "3 files are skipped (2 .heic, 1 .cr2)" in skipped(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    assert "2 .heic, 1 .cr2" in error(tmp_path)
    assert skipped(tmp_path / "masks") is None
