"""The end of a run in words: a table for the console and a JSON file with every figure behind it."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from src.files.atomic import write_bytes
from src.metrics import BoundaryScores, Calibration, Interval, Measures, Scores
from src.reports.pictures import Classes

__all__ = ["summary_table", "write_scores"]

_BAR = 24  # characters for 100 %
_EIGHTHS = " ▏▎▍▌▋▊▉"


def summary_table(
    scores: Scores,
    label_space: Classes,
    *,
    seconds: float,
    images_per_second: float,
    paths: dict[str, Path],
    measures: Measures | None = None,
) -> str:
    """Aligned text: IoU and pixel share per class, the means, time, speed, and where things lie.

    Args:
        scores: of the last validation or test.
        label_space: names of the classes.
        seconds: how long the run took.
        images_per_second: its throughput; nan where it was not measured.
        paths: what lies where, by the word to show before it.
        measures: what else was measured.
    """
    names, iou, share = label_space.names, scores.iou.tolist(), _truth_share(scores)
    means = _means(scores, label_space, measures)
    width = max(map(len, [*names, *paths, *(name for name, _, _ in means)]))
    line = "─" * (width + _BAR + 21)
    absent = [names[index] for index in scores.absent]
    rows = [line, f" {'class':<{width}}   IoU %  {'':<{_BAR}}  truth %", line]
    rows += [_class_row(*row, width) for row in zip(names, iou, share, strict=True)]
    rows += [line, *(f" {name:<{width}}  {100 * value:6.2f}  {note}".rstrip() for name, value, note in means)]
    if absent:
        rows += [f" absent from truth and prediction, left out of the mean: {', '.join(absent)}"]
    facts = {"time": f"{datetime.timedelta(seconds=round(seconds))}"}
    if not math.isnan(images_per_second):
        facts["throughput"] = f"{images_per_second:.1f} images/s"
    facts |= {name: str(path) for name, path in paths.items()}
    return "\n".join([*rows, line, *(f" {name:<{width}}  {fact}" for name, fact in facts.items()), line])


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
        measures: what else was measured.
        protocol: how it was measured, plain containers.
    """
    names = list(label_space.names)
    content = {
        "miou": _or_none(scores.miou),
        "pixel_accuracy": _or_none(scores.pixel_accuracy),
        "mean_accuracy": _or_none(scores.mean_accuracy),
        "frequency_weighted_iou": _or_none(scores.frequency_weighted_iou),
        **_of_categories(scores, label_space),
        **(_of_measures(measures, names) if measures else {}),
        "iou": _by_name(names, scores.iou),
        "accuracy": _by_name(names, scores.accuracy),
        "truth_share": _by_name(names, _truth_share(scores)),
        "absent": [names[index] for index in scores.absent],
        "protocol": dict(protocol or {}),
        "classes": names,
        "colors": [[int(part) for part in color] for color in label_space.colors],
        "confusion_matrix": scores.matrix.tolist(),
    }
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def _means(scores: Scores, label_space: Classes, measures: Measures | None) -> list[tuple[str, float, str]]:
    """Name, fraction and a note for each line below the classes."""
    classes = len(label_space.names)
    note = f"over {classes - len(scores.absent)} of {classes} classes"
    if measures and measures.interval:
        low, high = measures.interval.miou
        note += f"; 95 % of resampled images: {100 * low:.2f} to {100 * high:.2f}"
    rows = [
        ("mean IoU", scores.miou, note),
        ("pixel accuracy", scores.pixel_accuracy, ""),
        ("mean accuracy", scores.mean_accuracy, ""),
        ("frequency-weighted IoU", scores.frequency_weighted_iou, ""),
    ]
    if categories := getattr(label_space, "categories", None):
        rows.append(("category IoU", scores.grouped(categories).miou, f"{len(set(categories))} categories"))
    if measures and measures.boundary:
        rows.append(("boundary IoU", measures.boundary.miou, "within 2 % of the diagonal"))
    if measures:
        rows.append(("calibration error", measures.calibration.error, "15 bins"))
    return rows


def _of_categories(scores: Scores, label_space: Classes) -> dict[str, Any]:
    categories = getattr(label_space, "categories", None)
    if not categories:
        return {}
    grouped = scores.grouped(categories)
    return {"category_miou": _or_none(grouped.miou), "category_iou": _by_name(dict.fromkeys(categories), grouped.iou)}


def _of_measures(measures: Measures, names: list[str]) -> dict[str, Any]:
    return {
        "calibration_error": _or_none(measures.calibration.error),
        "reliability": _reliability(measures.calibration),
        **(_of_boundary(measures.boundary, names) if measures.boundary else {}),
        **(_of_interval(measures.interval, names) if measures.interval else {}),
    }


def _reliability(calibration: Calibration) -> list[dict[str, float | None]]:
    words = ("pixels", "confidence", "accuracy")
    return [dict(zip(words, map(_or_none, row), strict=True)) for row in calibration.bins.tolist()]


def _of_boundary(boundary: BoundaryScores, names: list[str]) -> dict[str, Any]:
    return {"boundary_miou": _or_none(boundary.miou), "boundary_iou": _by_name(names, boundary.iou)}


def _of_interval(interval: Interval, names: list[str]) -> dict[str, Any]:
    iou = {name: [_or_none(low), _or_none(high)] for name, (low, high) in zip(names, interval.iou, strict=True)}
    drawn = {"level": 0.95, "resamples": interval.resamples, "seed": interval.seed}
    return {"interval_over_images": {"miou": [*map(_or_none, interval.miou)], "iou": iou, **drawn}}


def _by_name(names: Iterable[str], values: Any) -> dict[str, float | None]:
    return {name: _or_none(float(value)) for name, value in zip(names, values, strict=True)}


def _truth_share(scores: Scores) -> list[float]:
    return (scores.matrix.sum(1) / scores.matrix.sum()).tolist()


def _class_row(name: str, iou: float, share: float, width: int) -> str:
    if math.isnan(iou):
        return f" {name:<{width}}       –  {'':<{_BAR}}  {100 * share:7.2f}"
    full, eighths = divmod(round(iou * _BAR * 8), 8)
    bar = ("█" * full + _EIGHTHS[eighths])[:_BAR]
    return f" {name:<{width}}  {100 * iou:6.2f}  {bar:<{_BAR}}  {100 * share:7.2f}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
