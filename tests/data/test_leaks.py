"""Copies across splits are found by content, whatever they are called, and little is read for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.data.doctor import duplicates
from src.data.doctor.duplicates import known_leak, leak
from src.data.label_space import LabelSpace
from src.data.sets.toy_streets import ToyStreets
from src.data.source import FileSource, Pair

SPACE = LabelSpace(["a", "b"], [(1, 2, 3), (4, 5, 6)])


def source(folder: Path, contents: dict[str, bytes]) -> FileSource:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content)
    return FileSource([Pair(folder / f"{name}.png", None, name) for name in contents], SPACE)


def test_copies_and_namesakes(tmp_path: Path) -> None:
    long = bytes(range(256)) * 40
    train = source(tmp_path / "train", {"a": b"one", "b": b"two", "c": long, "d": b"four"})
    val = source(tmp_path / "val", {"x": b"two", "d": b"other", "c": long, "y": b"new", "z": b"TWO"})
    found = leak(train, val)
    assert found.total == 5
    assert found.copies == 2
    assert found.files == [
        [str(tmp_path / "train/b.png"), str(tmp_path / "val/x.png")],
        [str(tmp_path / "train/c.png"), str(tmp_path / "val/c.png")],
    ]
    assert (found.namesakes, found.names) == (1, ["d"])


def test_equal_size_and_equal_end_is_no_copy(tmp_path: Path) -> None:
    end = bytes(8192)
    assert leak(source(tmp_path / "a", {"1": b"A" + end}), source(tmp_path / "b", {"1": b"B" + end})).copies == 0


def test_the_same_file_in_two_lists_is_a_copy(tmp_path: Path) -> None:
    train = source(tmp_path, {"a": b"one", "b": b"two"})
    found = leak(train, FileSource(train.pairs[1:], SPACE))
    assert found.files == [[str(tmp_path / "b.png"), str(tmp_path / "b.png")]]
    assert found.namesakes == 0


def test_files_of_other_sizes_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = source(tmp_path / "train", {str(i): bytes(i) for i in range(1, 9)})
    val = source(tmp_path / "val", {str(i): bytes(i) for i in range(8, 16)})
    opened, tail = [], duplicates._tail
    monkeypatch.setattr(duplicates, "_tail", lambda path: (opened.append(path.name), tail(path))[1])
    assert leak(train, val).copies == 1
    assert opened == ["8.png", "8.png"]


def test_a_limit_bounds_what_is_looked_at_and_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = source(tmp_path / "train", {str(i): b"%03d" % i for i in range(300)})
    val = source(tmp_path / "val", {str(i): b"%03d" % i for i in range(200)})
    looked, size = [], duplicates._size
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "_size", lambda path: (looked.append(path), size(path))[1])
        patch.setattr(duplicates, "fingerprint", None)
        found = leak(train, val, limit=10)
    assert len(looked) == 20
    assert (found.total, found.copies) == (10, 10)
    assert found.files[1] == [str(tmp_path / "train/20.png"), str(tmp_path / "val/20.png")]
    assert known_leak(train, val) is None
    assert leak(train, val, limit=1000).total == 200


def test_a_file_that_is_gone_is_left_to_the_audit(tmp_path: Path) -> None:
    train = source(tmp_path, {"a": b"one", "b": b"two"})
    (tmp_path / "a.png").unlink()
    assert leak(train, train).copies == 1


def test_it_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = source(tmp_path / "train", {"a": b"one"}), source(tmp_path / "val", {"b": b"one"})
    assert known_leak(train, val) is None
    found = leak(train, val)
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "_copies", None)
        assert leak(train, val) == known_leak(train, val) == found._replace(files=[[*found.files[0]]])
    source(tmp_path / "val", {"b": b"another"})
    assert known_leak(train, val) is None
    assert leak(train, val).copies == 0


def test_generated_scenes_have_no_files_to_compare() -> None:
    toy = ToyStreets(split="train", length=2)
    assert leak(toy, toy) is None
    assert known_leak(toy, toy) is None
