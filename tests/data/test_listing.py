"""Walking folders of images: links, hidden files, folders that cannot be read, and names of any bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data import listing
from src.data.doctor.audit import audit, remembered_audit
from src.data.doctor.duplicates import leak
from src.data.folder.source import folder
from src.data.listing import image_files
from src.data.shards.source import shards
from src.data.shards.writer import write_shards
from src.errors import UserError

SPLITS = ("train", "val", "test")


def write(path: Path, shape: tuple[int, ...] = (2, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)


def pairs(root: Path, *names: str) -> Path:
    for name in names:
        write(root / "images" / f"{name}.png", (2, 2, 3))
        write(root / "masks" / f"{name}.png")
    return root


def link(root: Path, path: str, target: str) -> None:
    """A link to a folder, both among the images and among the masks."""
    for kind in ("images", "masks"):
        place = root / kind / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def drawn(root: Path, **options: Any) -> dict[str, list[str]]:
    found = {}
    for split in SPLITS:
        options = {"fractions": {"train": 0.5, "val": 0.3, "test": 0.2}, "classes": ["a"], **options}
        found[split] = [pair.name for pair in folder(root=root, split=split, **options).pairs]
    return found


def every(root: Path) -> list[str]:
    return [name for names in drawn(root).values() for name in names]


MANY = [f"{number:02}" for number in range(30)]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".b.png", ".cache/c.png", "deep/er/d.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert image_files(tmp_path) == ["a.png", "deep/er/d.JPG"]
    assert image_files(tmp_path / "no such folder") == []


@pytest.mark.parametrize(
    "links",
    [
        {"self": "."},
        {"self": ".", "again": "."},
        {"x/up": ".."},
        {"x/y": "../z", "z/x": "../x"},
        {f"m{i}/to{j}": f"../m{j}" for i in range(9) for j in range(9) if i != j},
    ],
    ids=["itself", "itself twice", "its parent", "each other", "nine to one another"],
)
def test_links_in_a_circle_end_and_add_no_pair(tmp_path: Path, links: dict[str, str]) -> None:
    pairs(tmp_path, *MANY, "x/1", "z/2", *(f"m{i}/3" for i in range(9)))
    before = drawn(tmp_path)
    for path, target in links.items():
        link(tmp_path, path, target)
    assert drawn(tmp_path) == before


def test_what_only_a_link_leads_to_is_listed(tmp_path: Path) -> None:
    pairs(tmp_path / "elsewhere", *MANY)
    root = pairs(tmp_path / "data", "a")
    for kind in ("images", "masks"):
        (root / kind / "more").symlink_to(tmp_path / "elsewhere" / kind)
    names = every(root)
    assert sorted(names) == ["a", *(f"more/{name}" for name in MANY)]


@pytest.mark.parametrize("alias", ["0first", "zlast"])
def test_a_pair_reached_by_two_ways_is_one_pair(tmp_path: Path, alias: str) -> None:
    pairs(tmp_path, *(f"real/{name}" for name in MANY))
    before = drawn(tmp_path)
    link(tmp_path, alias, "real")
    assert drawn(tmp_path) == before
    source = folder(root=tmp_path, split="train", classes=["a"])
    assert source.unmatched == ()
    (tmp_path / "masks" / alias).unlink()  # images without masks there are the same images
    assert drawn(tmp_path) == before


def test_an_image_with_another_mask_there_is_another_pair_and_masks_may_be_shared(tmp_path: Path) -> None:
    pairs(tmp_path, "one/1", "two/1")
    (tmp_path / "images" / "third").symlink_to("one")
    write(tmp_path / "masks" / "third" / "1.png")
    (tmp_path / "images" / "fourth").mkdir()
    write(tmp_path / "images" / "fourth" / "1.png", (2, 2, 3))
    (tmp_path / "masks" / "fourth").symlink_to("two")
    source = folder(root=tmp_path, split="train", classes=["a"], fractions={"train": 1.0})
    assert [pair.name for pair in source.pairs] == ["fourth/1", "one/1", "third/1", "two/1"]


def test_a_link_to_nothing_is_named_when_it_is_read(tmp_path: Path) -> None:
    pairs(tmp_path, "a")
    (tmp_path / "images" / "b.png").symlink_to("nowhere.png")
    (tmp_path / "images" / "c.png").symlink_to("c.png")
    write(tmp_path / "masks" / "b.png")
    write(tmp_path / "masks" / "c.png")
    source = folder(root=tmp_path, split="train", classes=["a"], fractions={"train": 1.0})
    assert len(source) == 3
    for number, name in ((1, "b"), (2, "c")):
        with pytest.raises(UserError, match=rf"{name}\.png: file not found"):
            source.read(number)


def test_a_link_to_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    pairs(tmp_path, "a")
    (tmp_path / "images" / "notes.txt").symlink_to("nowhere.txt")
    (tmp_path / "images" / "more").symlink_to("/mnt/not mounted")
    with pytest.raises(UserError, match=r"images/more: link cannot be followed \(nothing is there\); mount or restore"):
        folder(root=tmp_path, split="train", classes=["a"])


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A folder below ``/tmp``, and a user whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        root = os.geteuid() == 0
        yield Path(name)
        if root:
            os.seteuid(0)
        for path in Path(name).rglob("*"):
            if path.is_dir():
                path.chmod(0o755)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_folder_that_cannot_be_read_is_named(plain_user: Path, kind: str) -> None:
    pairs(plain_user, "a", "closed/b")
    (plain_user / kind / "closed").chmod(0o000)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(UserError, match=rf"{kind}/closed: folder cannot be listed \(Permission denied\); correct its"):
        folder(root=plain_user, split="train", classes=["a"])


def test_a_link_into_a_folder_that_cannot_be_read_is_named(plain_user: Path) -> None:
    pairs(plain_user, "a")
    (plain_user / "closed" / "more").mkdir(parents=True)
    (plain_user / "images" / "more").symlink_to("../closed/more")
    (plain_user / "closed").chmod(0o000)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(UserError, match=r"images/more: link cannot be followed \(Permission denied\); mount or"):
        folder(root=plain_user, split="train", classes=["a"])


def test_a_listing_is_made_once_until_a_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs(tmp_path, *MANY, "deep/x")
    for path in [*tmp_path.rglob("*"), tmp_path]:
        if path.is_dir():
            os.utime(path, (1e9, 1e9))
    before = drawn(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(listing, "_walk", None)
        assert drawn(tmp_path) == before
    pairs(tmp_path, "deep/y")
    assert "deep/y" in every(tmp_path)
    (tmp_path / "images" / "deep" / "y.png").unlink()  # at once: the clock of the folder may not have moved on
    assert "deep/y" not in every(tmp_path)


def test_two_splits_cost_one_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs(tmp_path, *MANY)
    for kind in ("images", "masks"):
        os.utime(tmp_path / kind, (1e9, 1e9))
    walked, walk = [], listing._walk
    monkeypatch.setattr(listing, "_walk", lambda base: walked.append(Path(base).name) or walk(base))
    drawn(tmp_path)
    assert sorted(walked) == ["images", "masks"]


NASTY = [b"a\xffb", "Straße 北京".encode(), b"line\nbreak", b"x" * 251, b" blank ", b"-rf", b"$HOME #1;'\"=[a,b]{c}"]


def test_names_of_any_bytes_are_listed_drawn_and_read(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in NASTY]
    pairs(tmp_path, *names)
    assert sorted(every(tmp_path)) == sorted(names)
    source = folder(root=tmp_path, split="train", classes=["a"], fractions={"train": 1.0})
    assert [source.read(i)[0].shape for i in range(len(source))] == [(2, 2, 3)] * len(names)
    assert [audit(source).looked_at, audit(source).failures] == [len(names), {}]


def test_names_of_any_bytes_go_through_shards_and_findings(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in NASTY]
    pairs(tmp_path, *names)
    source = folder(root=tmp_path, split="train", classes=["a"], fractions={"train": 1.0})
    write_shards(source, tmp_path / "shards", split="train")
    read = shards(root=tmp_path / "shards", split="train")
    assert [read.name(i) for i in range(len(read))] == [source.name(i) for i in range(len(source))]
    for pair in source.pairs:
        pair.image.write_bytes(b"no image")
    damaged = folder(root=tmp_path, split="train", classes=["a"], fractions={"train": 1.0})
    first, again = remembered_audit(damaged), remembered_audit(damaged)
    assert first.problems == again.problems
    assert str(damaged.pairs[0].image) in first.problems[0]
    assert leak(damaged, source).copies == len(names)
    with pytest.raises(UserError, match="no sample of split 'train' can be read"):
        write_shards(damaged, tmp_path / "none", split="train")
