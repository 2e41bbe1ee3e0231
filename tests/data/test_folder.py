"""Image and mask folders: pairing, splits, and what each mistake is answered with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data.folder.source import folder
from src.data.source import FileSource
from src.errors import UserError


def write(path: Path, values: Any = 0) -> None:
    """An image for a three-channel suffix of the folder's name, else a 2x2 mask of ``values``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((2, 2, 3), 90, np.uint8) if "image" in path.as_posix() else np.full((2, 2), values, np.uint8)
    Image.fromarray(array).save(path)


def write_pairs(root: Path, *names: str, image: str = ".jpg", mask: str = ".png") -> Path:
    for name in names:
        write(root / "images" / f"{name}{image}")
        write(root / "masks" / f"{name}{mask}")
    return root


def names(source: FileSource) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def everything(root: Any, **options: Any) -> FileSource:
    return folder(root=root, split="train", classes=["a", "b"], fractions={"train": 1.0}, **options)


def test_pairs_nested_folders_across_extensions(tmp_path: Path) -> None:
    write_pairs(tmp_path, "x/1", "y/1", "0")
    (tmp_path / "images" / "x" / "notes.txt").write_text("not an image")
    write(tmp_path / "images" / "x" / "._1.jpg")
    source = everything(tmp_path)
    assert names(source) == ["0", "x/1", "y/1"]
    assert source.pairs[1].label == tmp_path / "masks" / "x" / "1.png"
    assert source.read(1)[1].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("image", "mask", "options"),
    [
        (".jpg", "_mask.png", {"mask_suffix": "_mask"}),
        ("_rgb.JPG", "_mask.png", {"image_suffix": "_rgb", "mask_suffix": "_mask"}),
        ("_rgb.png", "_mask.png", {"image_suffix": "_rgb.png", "mask_suffix": "_mask.png"}),
    ],
)
def test_suffixes(tmp_path: Path, image: str, mask: str, options: dict) -> None:
    source = everything(write_pairs(tmp_path, "frame_01", image=image, mask=mask), **options)
    assert names(source) == ["frame_01"]
    assert source.pairs[0].label.name == f"frame_01{mask}"


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    for name in ("1.png", "1_m.png", "2.png", "2_m.png"):
        write(tmp_path / "all" / name)
    assert names(everything(tmp_path, image_dir="all", mask_dir="all", mask_suffix="_m")) == ["1", "2"]


def test_masks_inside_the_folder_of_images(tmp_path: Path) -> None:
    write(tmp_path / "1.jpg")
    write(tmp_path / "masks" / "1.png")
    assert names(everything(tmp_path, image_dir=".")) == ["1"]


@pytest.mark.parametrize(
    ("image_dir", "mask_dir", "options"),
    [
        ("images/{}", "masks/{}", {}),
        ("{}/images", "{}/masks", {"image_dir": "{split}/images", "mask_dir": "{split}/masks"}),
        ("images/{}", "{}annot", {"mask_dir": "{split}annot"}),
    ],
)
def test_a_folder_per_split(tmp_path: Path, image_dir: str, mask_dir: str, options: dict) -> None:
    for split in ("train", "val"):
        write(tmp_path / image_dir.format(split) / f"{split}1.jpg")
        write(tmp_path / mask_dir.format(split) / f"{split}1.png")
    write(tmp_path / image_dir.format("test") / "bare.jpg")
    read = {s: folder(root=tmp_path, split=s, classes=["a"], **options) for s in ("train", "val", "test")}
    assert {split: names(source) for split, source in read.items()} == {
        "train": ["train1"],
        "val": ["val1"],
        "test": ["bare"],
    }
    assert read["test"].read(0)[1] is None
    with pytest.raises(UserError, match=r"extra.*: no images for split 'extra' \(there is .*train.*data\.splits"):
        folder(root=tmp_path, split="extra", classes=["a"], **options)


def test_a_file_keeps_its_split_when_others_come_and_go(tmp_path: Path) -> None:
    write_pairs(tmp_path, *(f"{i:03}" for i in range(60)))

    def splits() -> dict[str, str]:
        return {n: s for s in ("train", "val", "test") for n in names(folder(root=tmp_path, split=s, classes=["a"]))}

    before = splits()
    assert len(before) == 60
    assert [list(before.values()).count(s) > 0 for s in ("train", "val", "test")] == [True] * 3
    write_pairs(tmp_path, "new")
    (tmp_path / "images" / "030.jpg").unlink()
    after = splits()
    assert after.keys() == before.keys() - {"030"} | {"new"}
    assert all(after[name] == split for name, split in before.items() if name != "030")
    reseeded = names(folder(root=tmp_path, split="train", classes=["a"], seed=1))
    assert reseeded != [name for name in after if after[name] == "train"]


def test_an_empty_draw_names_a_seed_that_helps(tmp_path: Path) -> None:
    write_pairs(tmp_path, "1", "2", "3", "4")
    fractions = {"train": 0.5, "val": 0.5}
    failing = next(s for s in range(99) if len(drawn(tmp_path, "train", s, fractions) or []) == 4)
    with pytest.raises(UserError, match=r"split 'val' is empty, as none of 4 images .* set data\.seed=\d+") as error:
        folder(root=tmp_path, split="val", classes=["a"], fractions=fractions, seed=failing)
    seed = int(str(error.value).split("set data.seed=")[1].split(",")[0])
    assert drawn(tmp_path, "train", seed, fractions)
    assert drawn(tmp_path, "val", seed, fractions)


def drawn(root: Path, split: str, seed: int, fractions: dict[str, float]) -> list[str] | None:
    try:
        return names(folder(root=root, split=split, classes=["a"], fractions=fractions, seed=seed))
    except UserError:
        return None


def test_split_files_take_names_paths_and_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path, "c", "b", "a b", "d")
    write(tmp_path / "masks" / "other.png")
    (tmp_path / "t.txt").write_text(
        "# order counts\nc\n\na b.jpg\n./images/b.jpg\nimages/d.jpg masks/other.png\nd.jpg,d.png\n"
    )
    source = folder(root=tmp_path, split="train", classes=["a"], splits_files={"train": "t.txt"})
    assert names(source) == ["c", "a b", "b", "images/d", "d"]
    assert [pair.label.name for pair in source.pairs] == ["c.png", "a b.png", "b.png", "other.png", "d.png"]
    assert source.unmatched == ()


def test_split_files_of_other_encodings(tmp_path: Path) -> None:
    write_pairs(tmp_path, "Müll", os.fsdecode(b"a\xffb"))
    options = {"root": tmp_path, "split": "train", "classes": ["a"], "splits_files": {"train": "t.txt"}}
    (tmp_path / "t.txt").write_text("Müll\n", encoding="utf-8-sig")
    assert names(folder(**options)) == ["Müll"]
    (tmp_path / "t.txt").write_bytes(b"a\xffb.jpg\n")  # as ls writes it
    assert names(folder(**options)) == [os.fsdecode(b"a\xffb")]
    (tmp_path / "t.txt").write_bytes("Müll\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"t\.txt, line 1: no image 'M\\xfcll' below .*save the list as UTF-8"):
        folder(**options)
    (tmp_path / "t.txt").write_bytes("Müll.jpg other.png\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"t\.txt, line 1: no file 'M\\xfcll\.jpg' below .*save the list as UTF-8"):
        folder(**options)


def test_split_file_errors(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a")
    options = {"root": tmp_path, "classes": ["a"], "splits_files": {"train": "t.txt"}}
    with pytest.raises(UserError, match=r"t\.txt: split file not found; correct data\.splits_files\.train"):
        folder(split="train", **options)
    with pytest.raises(
        UserError, match=r"no entry for split 'val' but train; add '\+data\.splits_files\.val=val\.txt'"
    ):
        folder(split="val", **options)
    (tmp_path / "t.txt").write_text("a\nghost\n")
    with pytest.raises(UserError, match=r"t\.txt, line 2: no image 'ghost' below .*images; correct or remove"):
        folder(split="train", **options)
    (tmp_path / "t.txt").write_text("a.jpg ghost.png\n")
    with pytest.raises(UserError, match=r"t\.txt, line 1: no file 'ghost\.png' below .*masks; correct"):
        folder(split="train", **options)
    (tmp_path / "t.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match=r"t\.txt: lists no image for split 'train'; write one name per line"):
        folder(split="train", **options)


def test_several_roots(tmp_path: Path) -> None:
    first, second = write_pairs(tmp_path / "first", "1"), write_pairs(tmp_path / "second", "1", "2")
    assert names(everything([first, str(second)])) == ["first/1", "second/1", "second/2"]
    again = write_pairs(tmp_path / "more" / "first", "1")
    assert names(everything([first, again])) == ["first_0/1", "first_1/1"]


def test_masks_without_image_are_kept_for_the_audit(tmp_path: Path) -> None:
    write_pairs(tmp_path, "1")
    write(tmp_path / "masks" / "2.png")
    assert everything(tmp_path).unmatched == (tmp_path / "masks" / "2.png",)


def test_missing_masks_are_counted_and_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, "1")
    for name in "23456":
        write(tmp_path / "images" / f"{name}.jpg")
    remedy = r"5 of 6 images .*'train' have no mask here \(2\.jpg, 3\.jpg, 4\.jpg and 2 more\); images are named"
    with pytest.raises(UserError, match=rf"masks: {remedy}"):
        everything(tmp_path)


def test_unlabelled_images_can_be_left_out(tmp_path: Path) -> None:
    write_pairs(tmp_path, "1", "2", "3")
    (tmp_path / "masks" / "2.png").unlink()
    with pytest.raises(UserError, match=r"1 of 3 images .*2\.jpg\); add the masks, .*data\.unlabelled=skip"):
        everything(tmp_path)
    source = everything(tmp_path, unlabelled="skip")
    assert names(source) == ["1", "3"]
    assert source.left_out == (str(tmp_path / "images" / "2.jpg"),)
    with pytest.raises(UserError, match=r"data\.unlabelled=drop must be error or skip"):
        everything(tmp_path, unlabelled="drop")
    for mask in (tmp_path / "masks").iterdir():
        mask.unlink()
    with pytest.raises(UserError, match="3 of 3 images"):
        everything(tmp_path, unlabelled="skip")


def test_ambiguous_names_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, "1")
    write(tmp_path / "images" / "1.png")
    with pytest.raises(
        UserError, match=r"images: '1\.jpg' and '1\.png' have one name.*remove one, or .*data\.image_suffix"
    ):
        everything(tmp_path)
    assert names(everything(tmp_path, image_suffix=".jpg")) == ["1"]


def test_missing_folders_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: folder not found, looked for images/ and masks/ .* data\.root"):
        everything(tmp_path / "nowhere")
    write(tmp_path / "image" / "1.jpg")
    missing = r"images: folder not found \(data\.root holds image\); .*data\.image_dir\. Did you mean 'image'\?"
    with pytest.raises(UserError, match=missing):
        everything(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"image: no images ending in '_x' .*data\.image_dir and data\.image_suffix"):
        everything(tmp_path, image_dir="image", image_suffix="_x")


def test_bad_fractions(tmp_path: Path) -> None:
    write_pairs(tmp_path, "1")
    with pytest.raises(UserError, match=r"'vall' is not in data\.fractions \(train, val, test\).*Did you mean 'val'\?"):
        folder(root=tmp_path, split="vall", classes=["a"])
    with pytest.raises(UserError, match=r"data\.fractions=.*0\.9.* shares must not"):
        folder(root=tmp_path, split="train", classes=["a"], fractions={"train": 0.9, "val": 0.2})
