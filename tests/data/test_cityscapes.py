"""Cityscapes in its official layout."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.data.doctor.audit import audit
from src.data.sets.cityscapes import CATEGORIES, TRAIN_ID_TO_RAW_ID, cityscapes
from src.errors import UserError

FACTS = Path(os.environ.get("SEMSEG_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "datasets"


def write_frame(root: Path, split: str, name: str, label: np.ndarray) -> None:
    city = name.split("_")[0]
    image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    stored = root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
    for path, array in ((image, np.full((*label.shape, 3), 120, np.uint8)), (stored, label)):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), array)
    cv2.imwrite(str(stored).replace("labelIds", "instanceIds"), label.astype(np.uint16) * 1000)


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    write_frame(tmp_path, "train", "ulm_000001_000019", np.array([[7, 8, 33, 0, 29, 26]], np.uint8))
    write_frame(tmp_path, "train", "aachen_000000_000019", np.array([[31, 31]], np.uint8))
    source = cityscapes(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == ["aachen_000000_000019", "ulm_000001_000019"]
    assert source.read(1)[1].tolist() == [[0, 1, 18, 255, 255, 13]]
    assert source.read(0)[1].tolist() == [[16, 16]]


def test_test_split_has_no_labels(tmp_path: Path) -> None:
    write_frame(tmp_path, "test", "berlin_000000_000019", np.array([[1, 3]], np.uint8))
    image, label = cityscapes(root=tmp_path, split="test").read(0)
    assert image.shape == (1, 2, 3)
    assert label is None


def test_an_id_outside_the_table_names_file_and_value(tmp_path: Path) -> None:
    write_frame(tmp_path, "val", "lindau_000000_000019", np.array([[7, 200]], np.uint8))
    with pytest.raises(UserError, match=r"lindau_000000_000019_gtFine_labelIds\.png: label value 200 "):
        cityscapes(root=tmp_path, split="val").read(0)


def test_files_of_train_ids_are_told_from_label_ids(tmp_path: Path) -> None:
    write_frame(tmp_path, "val", "lindau_000000_000019", np.array([[0, 1, 2, 13, 255]], np.uint8))
    (problem,) = audit(cityscapes(root=tmp_path, split="val")).problems
    assert re.search(r"labelIds\.png: label value 255 .*in no class; .*restore its own label files", problem)
    write_frame(tmp_path, "val", "lindau_000000_000019", np.array([[0, 1, 2, 13]], np.uint8))
    absent, ignored = audit(cityscapes(root=tmp_path, split="val")).notes[:2]
    assert absent.startswith("road, sidewalk, building")
    assert "75.0 % of all label pixels are ignored (stored as 0, 1, 2)" in ignored


def test_errors_say_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nowhere/leftImg8bit/train: .* cityscapes-dataset\.com.*leftImg8bit_trainval.*\.zip"
    ):
        cityscapes(root=tmp_path / "nowhere", split="train")
    with pytest.raises(UserError, match=r"no split 'valid'; use train, val, test, .*\. Did you mean 'val'\?"):
        cityscapes(root=tmp_path, split="valid")
    write_frame(tmp_path, "val", "lindau_000000_000019", np.array([[7]], np.uint8))
    next(tmp_path.glob("gtFine/val/*/*_labelIds.png")).unlink()
    with pytest.raises(UserError, match=r"lindau_.*labelIds\.png: label not found \(1 of 1 .*gtFine_trainvaltest\.zip"):
        cityscapes(root=tmp_path, split="val")
    (tmp_path / "leftImg8bit" / "train").mkdir()
    with pytest.raises(UserError, match=r"gtFine/train: .*gtFine_trainvaltest\.zip.* data\.root"):
        cityscapes(root=tmp_path, split="train")
    (tmp_path / "gtFine" / "train").mkdir()
    with pytest.raises(UserError, match=r"leftImg8bit/train: no <city>/\*_leftImg8bit\.png files; unpack"):
        cityscapes(root=tmp_path, split="train")


def test_tables_equal_the_published_ones(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    path = FACTS / "cityscapes_fine.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SEMSEG_SHARED to the folder that holds datasets/")
    facts = yaml.safe_load(path.read_text())
    write_frame(tmp_path, "val", "lindau_000000_000019", np.array([[7]], np.uint8))
    space = cityscapes(root=tmp_path, split="val").label_space
    assert list(space.names) == facts["classes"]
    assert [list(color) for color in space.colors] == facts["palette"]
    assert dict(space.file_values) == facts["raw_id_to_train_id"]
    assert list(TRAIN_ID_TO_RAW_ID) == facts["train_id_to_raw_id"]
    assert {name: list(ids) for name, ids in CATEGORIES.items()} == facts["metric"]["categories"]
