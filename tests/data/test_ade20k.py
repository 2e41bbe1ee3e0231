"""ADE20K-150 in its official layout, and the full ADE20K, which is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sets.ade20k import ade20k
from src.errors import UserError


def write_scene(root: Path, folder: str, name: str, label: list[int], mode: str = "RGB") -> None:
    base = root / "ADEChallengeData2016"
    for path, picture in (
        (base / "images" / folder / f"{name}.jpg", Image.new(mode, (len(label), 1))),
        (base / "annotations" / folder / f"{name}.png", Image.fromarray(np.array([label], np.uint8))),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def test_zero_is_ignored_and_classes_count_from_one(tmp_path: Path) -> None:
    write_scene(tmp_path, "training", "ADE_train_00000002", [0, 1, 150, 21])
    write_scene(tmp_path, "training", "ADE_train_00000001", [3, 3, 3, 3], mode="L")  # some photos are grey
    source = ade20k(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == ["ADE_train_00000001", "ADE_train_00000002"]
    assert source.read(1)[1].tolist() == [[255, 0, 149, 20]]
    image, label = source.read(0)
    assert (image.shape, label.tolist()) == ((1, 4, 3), [[2, 2, 2, 2]])
    assert source.label_space.num_classes == 150


def test_root_may_be_the_unpacked_folder_itself(tmp_path: Path) -> None:
    write_scene(tmp_path, "validation", "ADE_val_00000001", [1])
    test = tmp_path / "release_test" / "testing" / "ADE_test_00000001.jpg"
    test.parent.mkdir(parents=True)
    Image.new("RGB", (2, 1)).save(test)
    for root in (tmp_path, tmp_path / "ADEChallengeData2016"):
        assert len(ade20k(root=root, split="val")) == 1
        assert ade20k(root=root, split="test").read(0)[1] is None


@pytest.mark.parametrize("value", [151, 255])
def test_other_values_are_errors(value: int, tmp_path: Path) -> None:
    write_scene(tmp_path, "validation", "ADE_val_00000001", [1, value])
    with pytest.raises(UserError, match=rf"ADE_val_00000001\.png: label value {value} "):
        ade20k(root=tmp_path, split="val").read(0)


@pytest.mark.parametrize(
    "layout", ["ADE20K_2016_07_26/images/training/a/abbey", "ADE20K_2021_17_01/images/ADE/training/x/y"]
)
def test_the_full_set_is_refused(layout: str, tmp_path: Path) -> None:
    scene = tmp_path / layout / "ADE_train_00000001_seg.png"
    scene.parent.mkdir(parents=True)
    Image.new("RGB", (2, 1)).save(scene)
    for root in (tmp_path, tmp_path / layout.split("/")[0]):
        with pytest.raises(UserError, match=r"holds the full ADE20K .*_seg\.png.* download ADEChallengeData2016\.zip"):
            ade20k(root=root, split="train")


def test_errors_name_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ADEChallengeData2016: folder not found; download ADEChallengeData2016\.zip"):
        ade20k(root=tmp_path, split="train")
    with pytest.raises(UserError, match=r"no split 'vall'; use train, val, test\. Did you mean 'val'\?"):
        ade20k(root=tmp_path, split="vall")
    write_scene(tmp_path, "training", "ADE_train_00000001", [1])
    with pytest.raises(UserError, match=r"images/validation: folder not found; download"):
        ade20k(root=tmp_path, split="val")
    with pytest.raises(UserError, match=r"release_test/testing: folder not found; download release_test\.zip"):
        ade20k(root=tmp_path, split="test")
    next(tmp_path.glob("*/annotations/training/*.png")).unlink()
    with pytest.raises(UserError, match=r"annotations/training/ADE_train_00000001\.png: label not found \(1 of 1 "):
        ade20k(root=tmp_path, split="train")
