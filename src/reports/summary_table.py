"""The end of a run as a table for the console."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

from ..files.text_table import text_table
from ..metrics import Measures, Scores
from .pictures import Classes

__all__ = ["summary_table"]

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
    """Aligned text: IoU and pixel share per class, the means, time, speed, and where the files are.

    Args:
        scores: of the last validation or test.
        label_space: names of the classes.
        seconds: how long the run took.
        images_per_second: its throughput; nan where it was not measured.
        paths: a word -> the file or folder to show behind it.
        measures: further measures of the test.
    """
    names, means = label_space.names, _means(scores, label_space, measures)
    facts = [["time", str(datetime.timedelta(seconds=round(seconds)))]]
    if not math.isnan(images_per_second):
        facts.append(["throughput", f"{images_per_second:.1f} images/s"])
    facts += [[name, str(path)] for name, path in paths.items()]
    width = max(map(len, [*names, *paths, *(row[0] for row in means)]))
    rule = "─" * (width + _BAR + 21)
    classes = [_class_row(*row) for row in zip(names, scores.iou.tolist(), scores.truth_share, strict=True)]
    head, *rows = text_table([["class", "IoU %", "", "truth %"], *classes], "<><>", widths=(width, 6, _BAR, 7))
    rows += ["", *text_table(means, "<><", widths=(width, 6))]
    if scores.absent:
        absent = ", ".join(names[index] for index in scores.absent)
        rows.append(f"absent from truth and prediction, left out of the mean: {absent}")
    rows += ["", *text_table(facts, "<<", widths=(width,)), ""]
    return "\n".join([rule, f" {head}", rule, *(f" {row}" if row else rule for row in rows)])


def _means(scores: Scores, label_space: Classes, measures: Measures | None) -> list[list[str]]:
    """Name, percent and a note for each line below the classes."""
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
    if categories := label_space.categories:
        rows.append(("category IoU", scores.grouped(categories).miou, f"{len(set(categories))} categories"))
    if measures and measures.boundary:
        rows.append(("boundary IoU", measures.boundary.miou, "within 2 % of the diagonal"))
    if measures:
        rows.append(("calibration error", measures.calibration.error, "15 bins"))
    return [[name, f"{100 * value:.2f}", note] for name, value, note in rows]


def _class_row(name: str, iou: float, share: float) -> list[str]:
    if math.isnan(iou):
        return [name, "–", "", f"{100 * share:.2f}"]
    full, eighths = divmod(round(iou * _BAR * 8), 8)
    bar = ("█" * full + _EIGHTHS[eighths])[:_BAR]
    return [name, f"{100 * iou:.2f}", bar, f"{100 * share:.2f}"]
