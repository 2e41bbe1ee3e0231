"""Fingerprints change with whatever a source reads, and files appear whole or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data.cache import cache_dir, fingerprint, load_json, store_json
from src.data.label_space import LabelSpace
from src.data.sets.toy_streets import ToyStreets
from src.data.source import ConcatSource, FileSource, Pair, Source
from src.files.atomic import write_bytes

SPACE = LabelSpace(["a", "b"], [(1, 2, 3), (4, 5, 6)])


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    for name in ("1.png", "2.png", "m1.png", "m2.png", "c1.png"):
        (tmp_path / name).write_bytes(b"123")
    first = Pair(tmp_path / "1.png", tmp_path / "m1.png", "1", tmp_path / "c1.png")
    return FileSource([first, Pair(tmp_path / "2.png", tmp_path / "m2.png", "2")], SPACE)


def test_the_same_files_have_one_fingerprint_from_any_folder(source: FileSource, monkeypatch) -> None:
    mark = fingerprint(source)
    assert mark == fingerprint(FileSource(source.pairs, SPACE))
    monkeypatch.chdir(source.pairs[0].image.parent)
    paths = [[path and Path(path.name) for path in pair] for pair in ((*p[:2], p[3]) for p in source.pairs)]
    relative = [Pair(image, label, "x", sure) for image, label, sure in paths]
    assert fingerprint(FileSource(relative, SPACE)) == mark


@pytest.mark.parametrize("name", ["1.png", "m2.png", "c1.png"])
def test_a_changed_file_changes_it(source: FileSource, tmp_path: Path, name: str) -> None:
    mark = fingerprint(source)
    (tmp_path / name).write_bytes(b"1234")
    longer = fingerprint(source)
    os.utime(tmp_path / name, ns=(1, 1))
    older = fingerprint(source)
    (tmp_path / name).unlink()
    assert len({mark, longer, older, fingerprint(source)}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a", "c"]},
        {"file_values": {0: 0, 1: 255}},
        {"encoding": "color"},
        {"encoding": "color", "file_colors": {(9, 9, 9): 1}},
        {"ignore_unknown": True},
    ],
)
def test_another_reading_of_labels_changes_it(source: FileSource, change: dict) -> None:
    assert fingerprint(FileSource(source.pairs, replace(SPACE, **change))) != fingerprint(source)


def test_order_and_options_and_extra_count(source: FileSource) -> None:
    others = [
        FileSource(source.pairs[::-1], SPACE),
        FileSource(source.pairs[:1], SPACE),
        FileSource(source.pairs, SPACE, min_confidence=0.5),
        FileSource(source.pairs, SPACE, unmatched=[Path("x.png")]),
        ConcatSource([source, source]),
    ]
    marks = [fingerprint(other) for other in others] + [
        fingerprint(source, "index", 2),
        fingerprint(source, "index", 3),
    ]
    assert len({fingerprint(source), *marks}) == 8


def test_files_that_a_source_reads_beside_its_pairs_count(source: FileSource, tmp_path: Path) -> None:
    source.by_hand = [tmp_path / "more.png"]
    mark = fingerprint(source)
    (tmp_path / "more.png").write_bytes(b"1")
    assert fingerprint(source) != mark


def test_generated_scenes_are_told_apart_by_their_numbers() -> None:
    marks = [fingerprint(ToyStreets(split="train", length=8, seed=seed)) for seed in (0, 0, 1)]
    assert marks[0] == marks[1] != marks[2]
    assert fingerprint(ToyStreets(split="val", length=8)) != marks[0]


def test_what_cannot_be_told_apart_has_none() -> None:
    class Drawn(Source):
        label_space = SPACE

        def __init__(self) -> None:
            self.scenes = [np.zeros(3)]

        def __len__(self) -> int:
            return 1

    assert fingerprint(Drawn()) is None
    store_json("kind", None, 1)
    assert load_json("kind", None, dict) is None


def test_json_is_kept_under_its_key_and_broken_files_are_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "deep/cache"))
    assert cache_dir() == tmp_path / "deep/cache"
    assert load_json("kind", "key", dict) is None
    store_json("kind", "key", {"a": [1, "ü"]})
    assert load_json("kind", "key", dict) == {"a": [1, "ü"]}
    (cache_dir() / "kind/key.json").write_text("{")
    assert load_json("kind", "key", dict) is None


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "file"))
    store_json("kind", "key", 1)
    assert load_json("kind", "key", dict) is None


def test_a_file_is_whole_or_as_before(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]
