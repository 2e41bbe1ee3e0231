"""Mapillary Vistas in its two layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sets.class_tables import class_table
from src.data.sets.mapillary import mapillary
from src.errors import UserError

LAYOUTS = {"1.2": ("labels", "v1.2/labels"), "2.0": ("v2.0/labels",)}


def write_photo(root: Path, folder: str, key: str, values: list[int] | None, labels: str = "labels") -> None:
    """A photo, and a palette PNG in which one colour stands for every index, as v2.0 has several of."""
    image = root / folder / "images" / f"{key}.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (len(values or [0]), 1)).save(image)
    if values is not None:
        path = root / folder / labels / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        label = Image.fromarray(np.array([values], np.uint8), mode="P")
        label.putpalette([255, 255, 255] * 256)
        label.save(path)


def write_config(path: Path, table: str, unscored: set[int]) -> None:
    labels = [{"name": f"x--{i}", "evaluate": i not in unscored} for i in range(len(class_table(table).values))]
    path.write_text(json.dumps({"labels": labels}))


@pytest.mark.parametrize("labels", LAYOUTS["1.2"])
def test_v1_2_reads_both_archives_by_index(labels: str, tmp_path: Path) -> None:
    write_photo(tmp_path, "training", "zzOFdQA2sT_0", [0, 13, 64, 65], labels)
    write_photo(tmp_path, "training", "_1Gn_xkw7sa_", [55, 55, 55, 55], labels)
    source = mapillary(root=tmp_path, split="train")
    assert [source.name(i) for i in range(len(source))] == ["_1Gn_xkw7sa_", "zzOFdQA2sT_0"]
    assert source.read(1)[1].tolist() == [[0, 13, 64, 255]]
    assert source.label_space.num_classes == 65


def test_v2_0_leaves_unscored_classes_out_and_moves_the_rest_up(tmp_path: Path) -> None:
    write_photo(tmp_path, "validation", "key", [0, 1, 2, 3, 30, 31, 32, 117, 118, 122, 123], "v2.0/labels")
    write_photo(tmp_path, "validation", "key", [65] * 11, "v1.2/labels")
    source = mapillary(root=tmp_path, split="val", version="2.0")
    label = source.read(0)[1]
    assert label.tolist() == [[0, 1, 255, 2, 29, 255, 30, 110, 111, 115, 255]]
    assert source.label_space.names[110] == "Water Valve"
    assert source.label_space.num_classes == 116


def test_test_split_has_no_labels(tmp_path: Path) -> None:
    write_photo(tmp_path, "testing", "key", None)
    assert mapillary(root=tmp_path, split="test").read(0)[1] is None


def test_the_wrong_version_says_which_option_reads_it(tmp_path: Path) -> None:
    write_photo(tmp_path, "training", "key", [0], "labels")
    with pytest.raises(UserError, match=r"training: holds labels of Mapillary Vistas v1\.2 only; use data=mapillary,"):
        mapillary(root=tmp_path, split="train", version="2.0")
    write_photo(tmp_path, "validation", "key", [0], "v2.0/labels")
    with pytest.raises(UserError, match=r"validation: .* v2\.0 only; use data=mapillary_v2,"):
        mapillary(root=tmp_path, split="val")


def test_labels_of_the_other_version_are_found_out_by_their_values(tmp_path: Path) -> None:
    write_photo(tmp_path, "training", "key", [0, 108], "labels")
    with pytest.raises(UserError, match=r"labels/key\.png: label value 108 \(50 % .* 65 classes"):
        mapillary(root=tmp_path, split="train").read(0)


def test_a_map_of_instances_is_no_label(tmp_path: Path) -> None:
    write_photo(tmp_path, "training", "key", [0], "labels")
    Image.fromarray(np.array([[55 * 256 + 1]], np.uint16)).save(tmp_path / "training/labels/key.png")
    with pytest.raises(UserError, match=r"key\.png: label values 14081\.\.14081 do not fit 8 bits .* instance"):
        mapillary(root=tmp_path, split="train").read(0)


def test_the_config_beside_the_images_must_score_the_same_classes(tmp_path: Path) -> None:
    write_photo(tmp_path, "training", "key", [0], "v2.0/labels")
    write_photo(tmp_path, "training", "key", [0], "v1.2/labels")
    config = tmp_path / "config_v2.0.json"
    write_config(config, "mapillary_v2_0", {2, 31, 38, 79, 86, 96, 115, 123})
    assert len(mapillary(root=tmp_path, split="train", version="2.0")) == 1
    write_config(config, "mapillary_v2_0", {2, 31, 115, 118, 119, 120, 121, 123})
    with pytest.raises(UserError, match=r"config_v2\.0\.json: evaluates other classes .* number 38\)"):
        mapillary(root=tmp_path, split="train", version="2.0")
    config.write_text("{")
    with pytest.raises(UserError, match=r"config_v2\.0\.json: not readable"):
        mapillary(root=tmp_path, split="train", version="2.0")
    assert len(mapillary(root=tmp_path, split="train")) == 1  # not its config
    write_config(tmp_path / "config.json", "mapillary_v2_0", {123})
    with pytest.raises(UserError, match=r"config\.json: lists 124 classes where Mapillary Vistas v1\.2 has 66;"):
        mapillary(root=tmp_path, split="train")


def test_errors_name_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/training: folder not found; .*mapillary\.com.* data\.root"):
        mapillary(root=tmp_path / "nowhere", split="train")
    with pytest.raises(UserError, match=r"no split 'training'; use train, val, test\. Did you mean 'train'\?"):
        mapillary(root=tmp_path, split="training")
    with pytest.raises(UserError, match=r"data\.dataset\.version=1\.1 .* use 1\.2 or 2\.0"):
        mapillary(root=tmp_path, split="train", version="1.1")
    write_photo(tmp_path, "training", "a", [0])
    write_photo(tmp_path, "training", "b", None)
    with pytest.raises(UserError, match=r"training/labels/b\.png: label not found \(1 of 2 are missing\); unpack"):
        mapillary(root=tmp_path, split="train")
    write_photo(tmp_path, "validation", "a", None)
    with pytest.raises(UserError, match=r"validation/v1\.2/labels: folder not found; unpack"):
        mapillary(root=tmp_path, split="val")
    (tmp_path / "validation/images/a.jpg").unlink()
    (tmp_path / "validation/labels").mkdir()
    with pytest.raises(UserError, match=r"validation/images: no images \(\*\.jpg\); unpack"):
        mapillary(root=tmp_path, split="val")
