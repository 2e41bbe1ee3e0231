"""COCO-Stuff 164k and 10k in their official layouts: the same classes, counted from 0 and from 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from src.data.sets.coco_stuff import coco_stuff, coco_stuff_10k
from src.errors import UserError


def write_image(path: Path, width: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, 1)).save(path)


def write_map(root: Path, folder: str, name: str, label: list[int], mode: str = "RGB") -> None:
    write_image(root / "images" / folder / f"{name}.jpg", len(label), mode)
    path = root / "annotations" / folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([label], np.uint8)).save(path)


def write_10k(root: Path, split: str, labels: dict[str, list[int]]) -> None:
    (root / "imageLists").mkdir(parents=True, exist_ok=True)
    (root / "imageLists" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in labels))
    (root / "annotations").mkdir(exist_ok=True)
    for stem, label in labels.items():
        write_image(root / "images" / f"{stem}.jpg", len(label))
        regions = np.zeros((1, len(label)), np.uint16)
        stored = {"S": np.array([label], np.uint8), "regionMapStuff": regions, "captions": np.array(["a"], object)}
        savemat(root / "annotations" / f"{stem}.mat", stored, do_compression=True)


def test_164k_counts_from_zero_and_255_is_unlabelled(tmp_path: Path) -> None:
    write_map(tmp_path, "train2017", "000000000030", [0, 10, 12, 181, 255], mode="L")  # some photos are grey
    write_map(tmp_path, "train2017", "000000000009", [91] * 5)
    stray = tmp_path / "annotations/train2017/000000000009_labelTrainIds.png"  # as another project converts them
    Image.new("L", (5, 1)).save(stray)
    source = coco_stuff(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == ["000000000009", "000000000030"]
    image, label = source.read(1)
    assert image.shape == (1, 5, 3)
    assert label.tolist() == [[0, 10, 11, 170, 255]]
    assert source.label_space.num_classes == 171
    assert source.label_space.names[0] == "person"


def test_10k_counts_from_one_and_zero_is_unlabelled(tmp_path: Path) -> None:
    labels = {"COCO_train2014_000000000077": [0, 1, 11, 13, 182], "COCO_train2014_000000000034": [92] * 5}
    write_10k(tmp_path, "train", labels)
    write_10k(tmp_path, "test", {"COCO_train2014_000000000072": [3]})
    source = coco_stuff_10k(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == list(labels)
    assert source.read(0)[1].tolist() == [[255, 0, 10, 11, 170]]
    assert source.read(1)[1].tolist() == [[80] * 5]
    test = coco_stuff_10k(root=tmp_path, split="test")
    assert test.label_space.names[int(test.read(0)[1][0, 0])] == "car"


@pytest.mark.parametrize("value", [11, 25, 90, 182])
def test_164k_refuses_ids_that_occur_in_no_map(value: int, tmp_path: Path) -> None:
    write_map(tmp_path, "val2017", "000000000139", [0, value])
    with pytest.raises(UserError, match=rf"000000000139\.png: label value {value} "):
        coco_stuff(root=tmp_path, split="val").read(0)


@pytest.mark.parametrize("value", [12, 26, 91, 183, 255])
def test_10k_refuses_ids_that_occur_in_no_map(value: int, tmp_path: Path) -> None:
    write_10k(tmp_path, "test", {"a": [1, value]})
    with pytest.raises(UserError, match=rf"annotations_png/a\.png: label value {value} "):
        coco_stuff_10k(root=tmp_path, split="test").read(0)


def test_10k_labels_are_parsed_once(tmp_path: Path) -> None:
    write_10k(tmp_path, "train", {"a": [1, 2]})
    first = coco_stuff_10k(root=tmp_path, split="train").read(0)[1]
    (tmp_path / "annotations/a.mat").write_bytes(b"no longer read")
    assert coco_stuff_10k(root=tmp_path, split="train").read(0)[1].tolist() == first.tolist()


def test_164k_errors_name_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: folder not found; unpack train2017\.zip .* data\.root/images"):
        coco_stuff(root=tmp_path / "nowhere", split="train")
    with pytest.raises(UserError, match=r"no split 'test'; use train, val\."):
        coco_stuff(root=tmp_path, split="test")
    write_image(tmp_path / "train2017/000000000009.jpg", 1)
    with pytest.raises(UserError, match=r"train2017: images and label maps unpack to folders of this name; unpack"):
        coco_stuff(root=tmp_path, split="train")
    write_map(tmp_path, "val2017", "000000000139", [0])
    with pytest.raises(UserError, match=r"images/train2017: folder not found; .*stuffthingmaps_trainval2017\.zip"):
        coco_stuff(root=tmp_path, split="train")
    (tmp_path / "annotations/val2017/000000000139.png").unlink()
    with pytest.raises(UserError, match=r"val2017/000000000139\.png: label not found \(1 of 1 are missing\); unpack"):
        coco_stuff(root=tmp_path, split="val")


def test_10k_errors_name_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: folder not found; unpack cocostuff-10k-v1\.1\.zip"):
        coco_stuff_10k(root=tmp_path / "nowhere", split="train")
    with pytest.raises(UserError, match=r"no split 'val'; use train, test, all"):
        coco_stuff_10k(root=tmp_path, split="val")
    with pytest.raises(UserError, match=r"imageLists/train\.txt: list of files not found; unpack"):
        coco_stuff_10k(root=tmp_path, split="train")
    write_10k(tmp_path, "train", {"a": [1], "b": [1]})
    (tmp_path / "annotations/b.mat").write_bytes((tmp_path / "annotations/b.mat").read_bytes()[:150])
    with pytest.raises(UserError, match=r"annotations/b\.mat: cannot be read as a \.mat file"):
        coco_stuff_10k(root=tmp_path, split="train")
    (tmp_path / "annotations/b.mat").unlink()
    with pytest.raises(UserError, match=r"annotations/b\.mat: label not found \(1 of 2 are missing\); unpack"):
        coco_stuff_10k(root=tmp_path, split="train")
    (tmp_path / "images/a.jpg").unlink()
    with pytest.raises(UserError, match=r"images/a\.jpg: image not found \(1 of 2 are missing\); unpack"):
        coco_stuff_10k(root=tmp_path, split="train")
    (tmp_path / "imageLists/train.txt").write_text("\n")
    with pytest.raises(UserError, match=r"imageLists/train\.txt: list of files is empty; unpack"):
        coco_stuff_10k(root=tmp_path, split="train")
