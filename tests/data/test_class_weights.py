"""Class weights counted from labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from src.data import FileSource, LabelSpace, Source
from src.data.sampling import class_weights as module
from src.data.sampling.class_weights import CLASS_WEIGHTS, class_weights, count_pixels
from src.data.source import Pair
from src.errors import UserError
from src.reports.pictures import save_png

NAMES = ("road", "car", "sign", "never")


class _Source(Source):
    """Labels in memory."""

    def __init__(self, labels: Sequence[np.ndarray | None]) -> None:
        self.labels = labels
        self.label_space = LabelSpace(NAMES, [(i, i, i) for i in range(4)])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        return np.zeros((1, 1, 3), np.uint8), self.labels[index]


def _labels() -> list[np.ndarray | None]:
    first = np.repeat([0, 1, 255], [60, 30, 10]).astype(np.uint8).reshape(10, 10)
    second = np.repeat([0, 2], [45, 5]).astype(np.uint8).reshape(5, 10)
    return [first, None, second]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "cache"))
    pairs = []
    for index, label in enumerate(label for label in _labels() if label is not None):
        path = tmp_path / f"{index}.png"
        save_png(path, label)
        pairs.append(Pair(tmp_path / "no image", path, str(index)))
    return pairs


def _source(pairs: list[Pair]) -> FileSource:
    return FileSource(pairs, LabelSpace(NAMES, [(i, i, i) for i in range(4)]))


def test_counts_are_of_valid_pixels_and_of_the_labels_that_show_a_class() -> None:
    assert count_pixels(_Source(_labels())).tolist() == [[105, 30, 5, 0], [140, 90, 50, 0]]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [  # frequencies 105/140, 30/90, 5/50 with the median 1/3; shares 105, 30 and 5 of 140
        ("median_frequency", [4 / 9, 1, 10 / 3, 1]),
        ("sqrt_median_frequency", [2 / 3, 1, (10 / 3) ** 0.5, 1]),
        ("inverse_log", [*(1 / np.log(1.02 + np.array([105, 30, 5]) / 140)), 1]),
    ],
)
def test_rules_are_those_of_the_papers(rule: str, expected: list[float]) -> None:
    assert class_weights(_Source(_labels()), rule) == pytest.approx(expected, rel=1e-3)


def test_every_rule_is_tested_and_favours_the_rare() -> None:
    assert set(CLASS_WEIGHTS) == {"median_frequency", "sqrt_median_frequency", "inverse_log"}
    for rule in CLASS_WEIGHTS:
        road, car, sign, _ = class_weights(_Source(_labels()), rule)
        assert road < car < sign


def test_labels_are_counted_once_until_a_file_or_the_map_changes(
    files: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    monkeypatch.setattr(module, "count_pixels", lambda source: counted.append(source) or count_pixels(source))
    first = class_weights(_source(files), "median_frequency")
    assert class_weights(_source(files), "median_frequency") == first
    assert class_weights(_source(files), "inverse_log") != first
    assert len(counted) == 1
    save_png(files[0].label, np.zeros((10, 10), np.uint8))
    assert class_weights(_source(files), "median_frequency") != first
    assert len(counted) == 2
    class_weights(_source(files[1:]), "median_frequency")
    assert len(counted) == 3


def test_a_cache_that_cannot_be_written_only_costs_time(
    files: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "file"))
    assert class_weights(_source(files), "median_frequency")[1] == pytest.approx(1)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.class_weights=median.*Did you mean 'median_frequency'"):
        class_weights(_Source(_labels()), "median")


@pytest.mark.parametrize("labels", [[None], [np.full((3, 3), 255, np.uint8)]])
def test_labels_that_show_nothing_are_refused(labels: list[np.ndarray | None]) -> None:
    with pytest.raises(UserError, match=r"data\.class_weights=inverse_log: no label .* shows a class"):
        class_weights(_Source(labels), "inverse_log")
