"""Comparison of two runs on the same images, by a paired bootstrap and a paired test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.json_schema import SavedScores
from ..files.run_files import per_image_file, scores_file
from ..files.text_table import text_table
from ..metrics import PerImage, compare
from ..reports.scores_file import or_none, read_scores
from .protocol import differences

__all__ = ["compare_runs", "comparison_table"]

_REMEDY = "score the run again with src.evaluate"


@dataclass(frozen=True)
class _Run:
    folder: Path
    scores: SavedScores
    images: PerImage


def compare_runs(first: str | Path, second: str | Path, *, split: str, resamples: int) -> dict[str, Any]:
    """How the second run differs from the first, in plain containers: fractions in 0..1, ``None`` for undefined ones.

    Args:
        first, second: run folders of ``src.train`` or ``src.evaluate``.
        split: which of the scores that both have; where they have one only, that is it.
        resamples: of the interval and of the test.

    Raises:
        UserError: for runs without scores of one split, or with other classes or images.
    """
    folders = [Path(first), Path(second)]
    split = _common(folders, split)
    runs = [_read(folder, split) for folder in folders]
    _check_pairs(*runs)
    found = compare(runs[0].images, runs[1].images, resamples=resamples)
    names, interval = runs[0].scores["classes"], found.interval
    return {
        "split": split,
        "runs": [str(folder) for folder in folders],
        "images": len(runs[0].images),
        "miou": [run.scores["miou"] for run in runs],
        "difference": or_none(found.miou),
        "interval": [*map(or_none, interval.miou)],
        "p_value": found.p_value,
        "resamples": interval.resamples,
        "seed": interval.seed,
        "classes": {
            name: {
                "a": runs[0].scores["iou"][name],
                "b": runs[1].scores["iou"][name],
                "difference": or_none(found.iou[index]),
                "interval": [*map(or_none, interval.iou[index])],
            }
            for index, name in enumerate(names)
        },
        "images_of_other_truth": int((runs[0].images.counts()[2] != runs[1].images.counts()[2]).any(1).sum()),
        "protocol_differs": differences(*(run.scores.get("protocol") or {} for run in runs)),
    }


def comparison_table(result: dict[str, Any]) -> str:
    """Aligned text of ``compare_runs``."""
    first, second = result["runs"]
    a, b = result["miou"]
    whole = {"a": a, "b": b, "difference": result["difference"], "interval": result["interval"]}
    classes = [_row(name, entry) for name, entry in result["classes"].items()]
    rows = [["IoU %", "A", "B", "B - A", " 95 % over images"], *classes, _row("mean IoU", whole)]
    width = max(len(row[0]) for row in rows[1:])
    head, *body, mean = (f" {line}" for line in text_table(rows, "<>>><", widths=(width, 6, 6, 7)))
    rule = "─" * (width + 50)
    lines = [f"A: {first}", f"B: {second}", f"{result['split']}, {result['images']} images"]
    lines += [rule, head, rule, *body, rule, mean, rule, _verdict(result)]
    if result["images_of_other_truth"]:
        lines.append(f"careful: the truth of {result['images_of_other_truth']} images is not the same in both runs")
    for name, (one, other) in result["protocol_differs"].items():
        lines.append(f"measured differently: {name}: {one} | {other}")
    return "\n".join(lines)


def _verdict(result: dict[str, Any]) -> str:
    p_value, difference = result["p_value"], result["difference"]
    if p_value >= 0.05:
        return f"p = {p_value:.3g}: these images do not tell A from B"
    return f"p = {p_value:.3g}: {'B' if difference > 0 else 'A'} is better by more than the choice of images explains"


def _row(name: str, entry: Mapping[str, Any]) -> list[str]:
    numbers = [entry["a"], entry["b"], entry["difference"], *entry["interval"]]
    a, b, difference, low, high = ("–" if value is None else f"{100 * value:.2f}" for value in numbers)
    return [name, a, b, difference, f" {low:>6} to {high:>6}"]


def _common(folders: list[Path], wanted: str) -> str:
    found = []
    for folder in folders:
        splits = {path.stem.removeprefix("per_image_") for path in folder.glob(per_image_file("*"))}
        if not splits:
            raise UserError(
                f"compare: {folder} holds no {per_image_file('<split>')}; name run folders of src.train or"
                " src.evaluate, and score older runs again"
            )
        found.append(splits)
    both = found[0] & found[1]
    if wanted in both or len(both) == 1:
        return wanted if wanted in both else both.pop()
    words = [f"{folder} has {', '.join(sorted(splits))}" for folder, splits in zip(folders, found, strict=True)]
    raise UserError(
        f"compare: split={wanted} is not in both runs ({'; '.join(words)}); choose one of both as split=..."
    )


def _read(folder: Path, split: str) -> _Run:
    path, index = folder / scores_file(split), folder / per_image_file(split)
    scores = read_scores(path, remedy=_REMEDY).content
    _check_complete(path, scores)
    run = _Run(folder, scores, PerImage.read(index, scores["classes"]))
    if run.images.counts()[0].sum(0).tolist() != [row[index] for index, row in enumerate(scores["confusion_matrix"])]:
        raise UserError(f"{index}: does not add up to the scores in {path.name}; {_REMEDY}")
    return run


def _check_complete(path: Path, scores: SavedScores) -> None:
    missing = [name for name in ("miou", "iou", "classes", "confusion_matrix", "protocol") if scores.get(name) is None]
    if missing:
        raise UserError(f"{path}: holds no {missing[0]}; {_REMEDY}")
    names = scores["classes"]
    if (
        len(set(names)) < len(names)
        or set(names) != set(scores["iou"])
        or len(scores["confusion_matrix"]) != len(names)
    ):
        raise UserError(f"{path}: its classes, iou and confusion_matrix are not of the same classes; {_REMEDY}")


def _check_pairs(first: _Run, second: _Run) -> None:
    for word, one, other in (
        ("classes", first.scores["classes"], second.scores["classes"]),
        ("images", first.images.names, second.images.names),
    ):
        if one != other:
            odd = sorted(set(one) ^ set(other))
            example = f", '{odd[0]}' in one of them only" if odd else ", in another order"
            raise UserError(
                f"compare: {first.folder} was scored on {len(one)} {word} and {second.folder} on {len(other)}{example};"
                f" a paired comparison needs the same {word}: score both with src.evaluate on the same data and split"
            )
    if len(first.images) < 2:
        raise UserError(f"compare: {first.folder} was scored on {len(first.images)} image; give at least two")
