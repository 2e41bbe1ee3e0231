"""Scores as rows: classes, the confusion matrix, and what is confused most. Numbers are percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .album import data_uri

__all__ = ["ClassRow", "Confusion", "class_rows", "confusion", "flat", "percent"]

_CELLS = 40  # classes up to which the matrix is a table; beyond, a picture
_MOST = 10  # confusions that are named


@dataclass(frozen=True)
class ClassRow:
    """One class; ``None`` for what it has no value of. ``color`` is CSS."""

    name: str
    color: str
    iou: float | None
    low: float | None
    high: float | None
    accuracy: float | None
    boundary: float | None
    share: float | None


@dataclass(frozen=True)
class Confusion:
    """``cells`` in percent of the truth, ``None`` without truth; there are none where ``picture`` stands for them."""

    names: list[str]
    cells: list[list[float | None]]
    picture: str
    most: list[tuple[str, str, float, int]]  # truth, taken for, percent of the truth, pixels


def class_rows(scores: Mapping[str, Any]) -> list[ClassRow]:
    """The classes of a scores file, the highest IoU first and those without last."""
    intervals = (scores.get("interval_over_images") or {}).get("iou") or {}
    colors = scores.get("colors") or [None] * len(scores.get("classes", ()))
    rows = []
    for name, color in zip(scores.get("classes", ()), colors, strict=False):
        low, high = intervals.get(name) or (None, None)
        entries = [(scores.get(entry) or {}).get(name) for entry in ("iou", "accuracy", "boundary_iou", "truth_share")]
        iou, accuracy, boundary, share, low, high = map(percent, (*entries, low, high))
        css = "transparent" if color is None else "#{:02x}{:02x}{:02x}".format(*(int(part) & 255 for part in color))
        rows.append(ClassRow(name, css, iou, low, high, accuracy, boundary, share))
    return sorted(rows, key=lambda row: -1 if row.iou is None else row.iou, reverse=True)


def confusion(scores: Mapping[str, Any]) -> Confusion | None:
    """The matrix of a scores file; ``None`` where it has none."""
    names, counts = scores.get("classes"), np.array(scores.get("confusion_matrix") or [], float)
    if not names or counts.shape != (len(names), len(names)):
        return None
    truth = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, truth, out=np.full_like(counts, np.nan), where=truth > 0)
    few = len(names) <= _CELLS
    cells = [[None if np.isnan(cell) else float(cell) for cell in row] for row in shares] if few else []
    return Confusion(list(names), cells, "" if few else _drawn(shares), _most(names, counts, shares))


def flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys; lists stay whole."""
    if not isinstance(node, Mapping):
        return {prefix: _plain(node)}
    pairs: dict[str, str] = {}
    for key, value in node.items():
        pairs |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return pairs


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _most(names: Sequence[str], counts: np.ndarray, shares: np.ndarray) -> list[tuple[str, str, float, int]]:
    wrong = counts * (1 - np.eye(len(counts)))
    order = np.argsort(-wrong, axis=None)[:_MOST]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [
        (names[row], names[column], float(shares[row, column]), int(wrong[row, column]))
        for row, column in pairs
        if wrong[row, column] > 0
    ]


def _drawn(shares: np.ndarray) -> str:
    """White to blue over grey, a pixel a cell; the root lets rare confusions show."""
    depth = np.sqrt(np.nan_to_num(shares) / 100)[..., None]
    picture = (1 - depth) * [255, 255, 255] + depth * [160, 70, 20]  # BGR
    picture[np.isnan(shares)] = 200
    return data_uri(picture.round().astype(np.uint8), exact=True)


def percent(value: float | None) -> float | None:
    """A fraction as percent; ``None`` stays."""
    return None if value is None else 100 * value
