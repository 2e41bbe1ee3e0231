"""The file of scores of a run: how it is written, and what it says when read back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.atomic import write_bytes
from ..files.json_schema import SavedScores
from ..files.untrusted import read_json
from ..metrics import Measures, Scores
from .pictures import Classes

__all__ = ["ScoreFile", "or_none", "read_scores", "rules", "write_scores"]

_OF_A_RUN = ("checkpoint", "commit", "versions", "date")


@dataclass(frozen=True)
class ScoreFile:
    """One file of scores; ``split`` is the word in its name, or ``validation`` for the last one of a fit."""

    split: str
    content: SavedScores
    written: float

    @property
    def protocol(self) -> dict[str, Any]:
        return dict(self.content.get("protocol") or {})

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the mean IoU over images, 0..1; ``None`` where it was not measured."""
        low, high = (self.content.get("interval_over_images") or {}).get("miou") or (None, None)
        return None if low is None or high is None else (low, high)


def read_scores(path: Path, *, remedy: str) -> ScoreFile:
    """Read what ``write_scores`` wrote.

    Raises:
        UserError: for a broken file; ``remedy`` ends its sentence.
    """
    content = read_json(path, SavedScores, remedy=remedy)
    return ScoreFile(path.stem.removeprefix("scores_"), content, path.stat().st_mtime)


def rules(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a protocol that two scores must share to be comparable; the others differ by nature."""
    return {name: value for name, value in protocol.items() if name not in _OF_A_RUN}


def write_scores(
    scores: Scores,
    label_space: Classes,
    path: Path,
    *,
    measures: Measures | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> None:
    """Write the scores as JSON: fractions in 0..1, ``null`` for what is undefined.

    ``confusion_matrix`` counts pixels, rows are the truth and columns the prediction, in the order of ``classes``;
    ``colors`` are theirs, RGB in 0..255.

    Args:
        scores: of a test.
        label_space: names of the classes, and their categories if they have any.
        path: of the file.
        measures: further measures of the test.
        protocol: how it was measured, plain containers.
    """
    names, categories = list(label_space.names), {}
    if label_space.categories:
        grouped, groups = scores.grouped(label_space.categories), dict.fromkeys(label_space.categories)
        categories = {"category_miou": or_none(grouped.miou), "category_iou": _by_name(groups, grouped.iou)}
    content = {
        "miou": or_none(scores.miou),
        "pixel_accuracy": or_none(scores.pixel_accuracy),
        "mean_accuracy": or_none(scores.mean_accuracy),
        "frequency_weighted_iou": or_none(scores.frequency_weighted_iou),
        **categories,
        **(_of_measures(measures, names) if measures else {}),
        "iou": _by_name(names, scores.iou),
        "accuracy": _by_name(names, scores.accuracy),
        "truth_share": _by_name(names, scores.truth_share),
        "absent": [names[index] for index in scores.absent],
        "protocol": dict(protocol or {}),
        "classes": names,
        "colors": [[int(part) for part in color] for color in label_space.colors],
        "confusion_matrix": scores.matrix.tolist(),
    }
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def _of_measures(measures: Measures, names: Sequence[str]) -> dict[str, Any]:
    calibration, boundary, interval = measures.calibration, measures.boundary, measures.interval
    words = ("pixels", "confidence", "accuracy")
    content: dict[str, Any] = {
        "calibration_error": or_none(calibration.error),
        "reliability": [dict(zip(words, map(or_none, row), strict=True)) for row in calibration.bins.tolist()],
    }
    if boundary:
        content |= {"boundary_miou": or_none(boundary.miou), "boundary_iou": _by_name(names, boundary.iou)}
    if interval:
        content["interval_over_images"] = {
            "miou": [*map(or_none, interval.miou)],
            "iou": {name: [*map(or_none, bounds)] for name, bounds in zip(names, interval.iou, strict=True)},
            "level": 0.95,
            "resamples": interval.resamples,
            "seed": interval.seed,
        }
    return content


def _by_name(names: Iterable[str], values: Any) -> dict[str, float | None]:
    return {name: or_none(float(value)) for name, value in zip(names, values, strict=True)}


def or_none(value: float) -> float | None:
    """A number as files have it: ``None`` for nan."""
    return None if math.isnan(value) else float(value)
