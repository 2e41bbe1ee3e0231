"""PASCAL VOC 2012 and SBD in their official layouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from src.data.doctor.audit import audit
from src.data.label_space import distinct_colors
from src.data.sets.voc import voc
from src.errors import UserError
from tests.conftest import SHARED

BORDER = 255
PALETTE = [0, 0, 0, *(value for color in distinct_colors(255) for value in color)]


def write_png(path: Path, label: list[int], *, palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array([label], np.uint8))
    if palette:
        image.putpalette(PALETTE)
    image.save(path)


def write_voc(root: Path, *, listed: dict[str, list[str]], others: Iterable[str] = (), year: int = 2012) -> Path:
    """Images, class and object labels ``[0, 15, 255]`` and lists; ``others`` are images without a label."""
    kit = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (kit / folder).mkdir(parents=True, exist_ok=True)
    for split, stems in listed.items():
        (kit / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{stem}\r\n" for stem in stems))
    labelled = {stem for stems in listed.values() for stem in stems}
    for stem in {*labelled, *others}:
        Image.new("RGB", (3, 1), (200, 0, 0)).save(kit / "JPEGImages" / f"{stem}.jpg")
    for stem in labelled.difference(others):
        write_png(kit / "SegmentationClass" / f"{stem}.png", [0, 15, BORDER])
        write_png(kit / "SegmentationObject" / f"{stem}.png", [0, 1, BORDER])
    return kit


def write_sbd(root: Path, *, train: list[str], val: list[str], value: int = 8) -> Path:
    """``cls/<id>.mat`` as published: a struct whose field Segmentation is ``[0, value, value]``."""
    folder = root / "benchmark_RELEASE" / "dataset"
    for name in ("cls", "inst", "img"):
        (folder / name).mkdir(parents=True)
    boundaries = np.empty((20, 1), object)
    boundaries[:, 0] = [csc_matrix((1, 3), dtype=bool) for _ in range(20)]
    for part, stems in (("train", train), ("val", val)):
        (folder / f"{part}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            fields: dict[str, Any] = {
                "Boundaries": boundaries,
                "Segmentation": np.array([[0, value, value]], np.uint8),
                "CategoriesPresent": np.array([[value]], np.uint8),
            }
            savemat(folder / "cls" / f"{stem}.mat", {"GTcls": fields}, do_compression=True)
            Image.new("RGB", (3, 1)).save(folder / "img" / f"{stem}.jpg")
    return folder


def names(root: Path, split: str) -> list[str]:
    source = voc(root=root, split=split)
    return [source.name(index) for index in range(len(source))]


def test_palette_files_are_read_by_index_and_borders_ignored(tmp_path: Path) -> None:
    write_voc(tmp_path, listed={"train": ["2007_000032", "2007_000027"], "val": ["2007_000033"]}, others=["2008_1"])
    assert names(tmp_path, "train") == ["2007_000032", "2007_000027"]
    image, label = voc(root=tmp_path, split="train").read(0)
    assert image.shape == (1, 3, 3)
    assert image[0, 0, 0] > 150 > image[0, 0, 2]  # RGB
    assert label.tolist() == [[0, 15, 255]]
    assert not audit(voc(root=tmp_path, split="train")).problems


def test_root_may_be_any_folder_down_to_the_year(tmp_path: Path) -> None:
    kit = write_voc(tmp_path, listed={"val": ["a"]})
    for root in (tmp_path, kit.parent, kit):
        assert names(root, "val") == ["a"]


def test_train_aug_adds_sbd_without_any_image_of_val(tmp_path: Path) -> None:
    """Random membership of 60 images: what is in val never trains, and VOC's own labels win."""
    generator = np.random.default_rng(3)
    stems = [f"2008_{number:06d}" for number in range(60)]
    split = dict(zip(stems, generator.choice(["train", "val", "none"], 60), strict=True))
    part = dict(zip(stems, generator.choice(["train", "val", "none"], 60), strict=True))
    of = {name: [stem for stem in stems if split[stem] == name] for name in ("train", "val", "none")}
    in_sbd = {name: [stem for stem in stems if part[stem] == name] for name in ("train", "val")}
    write_voc(tmp_path, listed={"train": of["train"], "val": of["val"]}, others=of["none"])
    sbd = write_sbd(tmp_path, **in_sbd)

    found = names(tmp_path, "train_aug")
    known = {*of["train"], *in_sbd["train"], *in_sbd["val"]}
    assert found == sorted(known - set(of["val"]))
    assert set(of["val"]) & set(in_sbd["train"] + in_sbd["val"])  # or the line above shows nothing
    source = voc(root=tmp_path, split="train_aug")
    for index, stem in enumerate(found):
        expected = [0, 15, 255] if split[stem] == "train" else [0, 8, 8]
        assert source.read(index)[1].tolist() == [expected]
    assert {path.stem for path in (sbd / "cls_png").iterdir()} == set(found) - set(of["train"])


def test_converted_labels_are_taken_where_there_are_any(tmp_path: Path) -> None:
    kit = write_voc(tmp_path, listed={"train": ["a"], "val": ["v"]}, others=["b", "c"])
    for stem in ("a", "b", "v"):  # copies in use hold all of VOC too, without borders
        write_png(kit / "SegmentationClassAug" / f"{stem}.png", [0, 3, 3], palette=False)
    source = voc(root=tmp_path, split="train_aug")
    assert [source.read(index)[1].tolist() for index in range(len(source))] == [[[0, 15, 255]], [[0, 3, 3]]]
    write_sbd(tmp_path, train=["b", "c"], val=["v"])
    with pytest.raises(UserError, match=r"SegmentationClassAug/c\.png: label not found \(1 of 2 .*benchmark\.tgz"):
        voc(root=tmp_path, split="train_aug")


def test_fcn_is_scored_on_what_sbd_does_not_train(tmp_path: Path) -> None:
    write_voc(tmp_path, listed={"train": ["a"], "val": ["v", "w", "x"]}, others=["b"])
    with pytest.raises(UserError, match=r"VOC2011/JPEGImages: folder not found; .*VOCtrainval_25-May-2011\.tar"):
        voc(root=tmp_path, split="seg11valid")
    write_voc(tmp_path, listed={"train": ["a"], "val": ["v", "w"]}, year=2011)
    with pytest.raises(UserError, match=r"dataset/train\.txt: .*benchmark\.tgz"):
        voc(root=tmp_path, split="seg11valid")
    write_sbd(tmp_path, train=["b", "v"], val=["a"])
    assert names(tmp_path, "seg11valid") == ["w"]
    assert names(tmp_path, "sbd_train") == ["b", "v"]
    source = voc(root=tmp_path, split="sbd_train")
    assert [source.read(index)[1].tolist() for index in range(2)] == [[[0, 8, 8]]] * 2
    assert voc(root=tmp_path, split="seg11valid").read(0)[1].tolist() == [[0, 15, 255]]


def test_labels_of_test_are_not_asked_for(tmp_path: Path) -> None:
    write_voc(tmp_path, listed={"test": ["t"]}, others=["t"])
    assert voc(root=tmp_path, split="test").read(0)[1] is None


def test_errors_name_archive_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"VOC2012/JPEGImages: folder not found; .*VOCtrainval_11-May-2012\.tar.*root"):
        voc(root=tmp_path, split="train")
    with pytest.raises(UserError, match=r"no split 'trainaug'; use .*\. Did you mean 'train_aug'\?"):
        voc(root=tmp_path, split="trainaug")
    kit = write_voc(tmp_path, listed={"train": ["a"]}, others=["b"])
    with pytest.raises(UserError, match=r"Segmentation/val\.txt: list of files not found; .*VOCtrainval"):
        voc(root=tmp_path, split="train_aug")  # never without knowing what val holds
    with pytest.raises(UserError, match=r"Segmentation/test\.txt: .*VOC2012test\.tar"):
        voc(root=tmp_path, split="test")
    write_voc(tmp_path, listed={"val": ["v"]})
    with pytest.raises(UserError, match=r"benchmark_RELEASE/dataset/train\.txt: .*benchmark\.tgz"):
        voc(root=tmp_path, split="train_aug")
    (kit / "SegmentationClassAug").mkdir()
    with pytest.raises(UserError, match=r"SegmentationClassAug: adds no image to VOC train; .*benchmark\.tgz"):
        voc(root=tmp_path, split="train_aug")
    (kit / "SegmentationClassAug").rmdir()
    broken = write_sbd(tmp_path, train=["b"], val=["v"]) / "cls" / "b.mat"
    broken.write_bytes(broken.read_bytes()[:150])
    with pytest.raises(UserError, match=r"cls/b\.mat: cannot be read"):
        voc(root=tmp_path, split="train_aug")
    broken.unlink()
    with pytest.raises(UserError, match=r"cls/b\.mat: label not found \(1 of 1 .*benchmark\.tgz"):
        voc(root=tmp_path, split="train_aug")
    (kit / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(UserError, match=r"SegmentationClass/a\.png: label not found .*VOCtrainval_11"):
        voc(root=tmp_path, split="train")


def test_table_equals_the_published_one(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    path = SHARED / "datasets" / "voc2012.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SEMSEG_SHARED to the folder that holds datasets/")
    facts = yaml.safe_load(path.read_text())
    write_voc(tmp_path, listed={"val": ["a"]})
    space = voc(root=tmp_path, split="val").label_space
    assert list(space.names) == facts["classes"]
    assert [list(color) for color in space.colors] == facts["palette"]
    assert dict(space.file_values) == facts["raw_id_to_train_id"]
    assert [(0, 0, 0), *distinct_colors(20)] == [tuple(color) for color in space.colors]
