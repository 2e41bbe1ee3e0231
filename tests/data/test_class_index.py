"""Centres of mass against a plain count, and a cache that is used exactly as long as it is true."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src.data import FileSource, LabelSpace, Pair
from src.data.sampling import class_index as module
from src.data.sampling.class_index import ClassIndex, centroids, class_index
from src.data.source import ConcatSource, Source
from src.errors import UserError

SPACE = LabelSpace(["a", "b", "c"], [(1, 1, 1), (2, 2, 2), (3, 3, 3)])


class Maps(Source):
    """Labels in memory; ``None`` for an image without one."""

    label_space = SPACE

    def __init__(self, labels: list[np.ndarray | None]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        label = self.labels[index]
        return np.zeros((4, 4, 3), np.uint8), label


@settings(max_examples=150, deadline=None)
@given(
    label=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 11)), elements=st.sampled_from([0, 1, 2, 255])),
    tile=st.integers(1, 12),
)
def test_every_class_of_every_tile_has_its_centre(label: np.ndarray, tile: int) -> None:
    expected = []
    for top in range(0, label.shape[0], tile):
        for left in range(0, label.shape[1], tile):
            part = label[top : top + tile, left : left + tile]
            for class_id in range(3):
                rows, columns = np.nonzero(part == class_id)
                if len(rows):
                    expected.append([np.rint(top + rows.mean()), np.rint(left + columns.mean()), class_id])
    found = centroids(label, tile=tile, num_classes=3)
    assert sorted(found.tolist()) == sorted(np.array(expected, int).reshape(-1, 3).tolist())
    assert found.dtype == np.int32


def test_borders_that_are_no_whole_tile_count() -> None:
    label = np.zeros((70, 90), np.uint8)
    label[66:, 80:] = 1
    assert [68, 84, 1] in centroids(label, tile=64, num_classes=2).tolist()
    assert centroids(label, tile=1024, num_classes=2)[:, 2].tolist() == [0, 1]


def test_an_index_lists_points_by_class_over_all_sources() -> None:
    corner, plain = np.zeros((4, 6), np.uint8), np.full((3, 3), 2, np.uint8)
    corner[3, 5] = 2
    source = ConcatSource([Maps([corner, None]), Maps([np.full((2, 2), 255, np.uint8), plain])])
    index = class_index(source, 1024)
    assert index.of(0).tolist() == [[0, 1, 2]]
    assert index.of(1).tolist() == []
    assert index.of(2).tolist() == [[0, 3, 5], [3, 1, 1]]
    assert index.points.dtype == np.int32


def test_splits_of_other_classes_are_not_joined() -> None:
    other = Maps([np.zeros((2, 2), np.uint8)])
    other.label_space = LabelSpace(["a", "b"], [(1, 1, 1), (2, 2, 2)])
    with pytest.raises(UserError, match=r"a, b, c \(3\).*a, b \(2\).*same classes"):
        ConcatSource([Maps([np.zeros((2, 2), np.uint8)]), other])


@pytest.fixture
def files(write_pair, tmp_path: Path) -> FileSource:
    """Twenty pairs: class 0 everywhere, class 1 in one pixel."""
    pairs = []
    for number in range(20):
        label = np.zeros((8, 9), np.uint8)
        label[number % 8, number % 9] = 1
        write_pair(str(number), label=label)
        pairs.append(Pair(*(tmp_path / kind / f"{number}.png" for kind in ("images", "masks")), str(number)))
    return FileSource(pairs, SPACE)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A cache of the test's own; lists which labels are read."""
    monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "cache"))
    indices: list[int] = []
    read = FileSource.read_label
    monkeypatch.setattr(FileSource, "read_label", lambda source, index: indices.append(index) or read(source, index))
    return indices


def _same(first: ClassIndex, second: ClassIndex) -> bool:
    return all(np.array_equal(*pair) for pair in zip(first, second, strict=True))


def test_labels_are_looked_through_once_and_images_never(files: FileSource, looked_at: list[int]) -> None:
    for pair in files.pairs:
        pair.image.write_bytes(b"no image")
    first = class_index(files, 1024)
    assert first.of(1)[9].tolist() == [9, 1, 0]
    assert sorted(looked_at) == list(range(20))
    assert _same(class_index(files, 1024), first)
    assert len(looked_at) == 20


@pytest.mark.parametrize("change", ["label", "listing", "tile", "mapping", "threshold"])
def test_what_changes_points_makes_the_index_anew(
    files: FileSource, looked_at: list[int], write_pair, change: str
) -> None:
    class_index(files, 1024)
    tile = 4 if change == "tile" else 1024
    source = files
    if change == "label":
        write_pair("3", label=np.full((8, 9), 2, np.uint8))
    elif change == "listing":
        source = FileSource(files.pairs[1:], SPACE)
    elif change == "mapping":
        source = FileSource(files.pairs, LabelSpace(SPACE.names, SPACE.colors, file_values={0: 2, 1: 1}))
    elif change == "threshold":
        source = FileSource(files.pairs, SPACE, min_confidence=0.5)
    looked_at.clear()
    assert _same(class_index(source, tile), module._build(source, tile))
    assert len(looked_at) == 2 * len(source)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_a_damaged_cache_is_made_anew(files: FileSource, looked_at: list[int], tmp_path: Path, damage: str) -> None:
    whole = class_index(files, 1024)
    (path,) = (tmp_path / "cache").rglob("*.npz")
    content = path.read_bytes()
    at = content.index(b"\x93NUMPY") + 200  # within the points
    flipped = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    path.write_bytes({"truncated": content[:-30], "flipped": flipped, "empty": b"", "other": b"PK no archive"}[damage])
    looked_at.clear()
    assert _same(class_index(files, 1024), whole)
    assert len(looked_at) == 20
    assert _same(class_index(files, 1024), whole)
    assert len(looked_at) == 20
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_done_without(
    files: FileSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "images/0.png"))
    with pytest.warns(UserWarning, match=r"0\.png.*cannot be written.*SEMSEG_CACHE"):
        index = class_index(files, 1024)
    assert len(index.of(1)) == 20


def test_a_label_that_cannot_be_read_is_named(files: FileSource, looked_at: list[int]) -> None:
    files.pairs[17].label.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"masks/17\.png: cannot be decoded"):
        class_index(files, 1024)
    assert not list(Path(files.pairs[0].label).parents[1].rglob("*.npz"))


def test_a_label_read_alone_is_the_label_of_the_sample(tmp_path: Path, write_pair) -> None:
    generator = np.random.default_rng(0)
    write_pair("x", label=generator.integers(0, 3, (8, 9), dtype=np.uint8))
    write_pair("confidence", label=generator.integers(0, 256, (8, 9), dtype=np.uint8))
    files = [tmp_path / name for name in ("images/x.png", "masks/x.png", "masks/confidence.png")]
    pair = Pair(*files[:2], "x", files[2])
    source = FileSource([pair, pair._replace(label=None)], SPACE, min_confidence=0.5)
    label = source.read(0)[1]
    assert 0 < (label == 255).mean() < 1
    assert np.array_equal(source.read_label(0), label)
    assert source.read_label(1) is None
