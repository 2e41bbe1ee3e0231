"""The end of a run in words: a table for the console and a JSON file with every figure behind it."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path

from src.metrics import Scores
from src.viz import Classes, write_bytes

__all__ = ["summary_table", "write_scores"]

_BAR = 24  # characters for 100 %
_EIGHTHS = " ▏▎▍▌▋▊▉"


def summary_table(
    scores: Scores, label_space: Classes, *, seconds: float, images_per_second: float, paths: dict[str, Path]
) -> str:
    """Aligned text: IoU and pixel share per class, the means, time, speed, and where things lie.

    Args:
        scores: of the last validation or test.
        label_space: names of the classes.
        seconds: how long the run took.
        images_per_second: its throughput; nan where it was not measured.
        paths: what lies where, by the word to show before it.
    """
    names, iou, share = label_space.names, scores.iou.tolist(), _truth_share(scores)
    width = max(map(len, [*names, "pixel accuracy", *paths]))
    line = "─" * (width + _BAR + 21)
    absent = [names[index] for index in scores.absent]
    rows = [line, f" {'class':<{width}}   IoU %  {'':<{_BAR}}  truth %", line]
    rows += [_class_row(*row, width) for row in zip(names, iou, share, strict=True)]
    means = f"over {len(names) - len(absent)} of {len(names)} classes"
    rows += [line, f" {'mean IoU':<{width}}  {100 * scores.miou:6.2f}  {means}"]
    rows += [f" {'pixel accuracy':<{width}}  {100 * scores.pixel_accuracy:6.2f}"]
    if absent:
        rows += [f" absent from truth and prediction, left out of the mean: {', '.join(absent)}"]
    facts = {"time": f"{datetime.timedelta(seconds=round(seconds))}"}
    if not math.isnan(images_per_second):
        facts["throughput"] = f"{images_per_second:.1f} images/s"
    facts |= {name: str(path) for name, path in paths.items()}
    return "\n".join([*rows, line, *(f" {name:<{width}}  {fact}" for name, fact in facts.items()), line])


def write_scores(scores: Scores, label_space: Classes, path: Path) -> None:
    """Write the scores as JSON: fractions in 0..1, ``null`` for what is undefined.

    ``confusion_matrix`` counts pixels, rows are the truth and columns the prediction, in the order of ``classes``.
    """
    names = list(label_space.names)
    content = {
        "miou": _or_none(scores.miou),
        "pixel_accuracy": _or_none(scores.pixel_accuracy),
        "iou": dict(zip(names, map(_or_none, scores.iou.tolist()), strict=True)),
        "truth_share": dict(zip(names, map(_or_none, _truth_share(scores)), strict=True)),
        "absent": [names[index] for index in scores.absent],
        "classes": names,
        "confusion_matrix": scores.matrix.tolist(),
    }
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def _truth_share(scores: Scores) -> list[float]:
    return (scores.matrix.sum(1) / scores.matrix.sum()).tolist()


def _class_row(name: str, iou: float, share: float, width: int) -> str:
    if math.isnan(iou):
        return f" {name:<{width}}       –  {'':<{_BAR}}  {100 * share:7.2f}"
    full, eighths = divmod(round(iou * _BAR * 8), 8)
    bar = ("█" * full + _EIGHTHS[eighths])[:_BAR]
    return f" {name:<{width}}  {100 * iou:6.2f}  {bar:<{_BAR}}  {100 * share:7.2f}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
