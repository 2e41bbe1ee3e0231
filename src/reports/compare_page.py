"""A page that compares runs: their scores, curves, classes, and the options that differ."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from ..errors import UserError
from ..files.atomic import write_bytes
from ..files.run_files import REPORT
from .curves import learning_curves
from .html_templates import render_page
from .run_folder import Run
from .score_tables import flat, percent
from .scores_file import rules
from .svg_charts import COLORS, Curve, chart

__all__ = ["write_comparison"]

_OF_PLACE = ("run_dir", "task", "ckpt", "ckpt_path", "resume")  # and what interpolates them


def write_comparison(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Writes a page on several runs in one move; returns its path.

    Runs scored on the same split of the same data come together, those on parts of it last, the highest mIoU first.

    Args:
        folders: run folders of ``src.train`` or ``src.evaluate``.
        out: the file.

    Raises:
        UserError: for a folder without results, or a broken file.
    """
    runs, out = [Run(Path(folder)) for folder in folders], Path(out)
    if empty := [run.folder for run in runs if not run.holds_results]:
        raise UserError(f"compare: {empty[0]} holds neither metrics.csv nor scores_<split>.json; leave it out")
    runs.sort(key=lambda run: (_scored_on(run), math.isnan(run.miou), -run.miou))
    names = _names([run.folder for run in runs])
    stamps = [flat(rules(run.scores[0].protocol)) for run in runs if run.scores]
    page = render_page(
        "compare.html",
        title=f"{len(runs)} runs",
        groups=len(set(map(_scored_on, runs))),
        runs=[_row(run, name, out) for run, name in zip(runs, names, strict=True)],
        charts=_charts(runs, names),
        not_drawn=max(0, len(runs) - COLORS),
        classes=_classes(runs),
        settings=_different([_settings(run) for run in runs]),
        measured=_different(stamps) if len(stamps) == len(runs) else {},
    )
    write_bytes(out, page)
    return out


def _scored_on(run: Run) -> tuple[bool, str, bool, str]:
    """Whether only on some of the images, on which data, and on which split; runs that have not ended come last."""
    limits = (run.select("trainer", f"limit_{stage}_batches") for stage in ("val", "test"))
    partly = any(isinstance(limit, int) or limit not in (None, 1.0) for limit in limits)  # 1 is one batch, 1.0 all
    return partly, str(run.select("data", "name") or "–"), not run.scores, _split(run)


def _split(run: Run) -> str:
    return run.scores[0].split if run.scores else "best validation"


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of their paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts))):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _row(run: Run, name: str, out: Path) -> dict[str, Any]:
    report, best = run.folder.resolve() / REPORT, run.best
    interval = run.scores[0].interval if run.scores else None
    speed = run.curves.get("train/images_per_second")
    link = os.path.relpath(report, out.resolve().parent)  # works wherever the folders are moved together
    return {
        "name": name,
        "link": quote(link, errors="surrogateescape") if report.is_file() else None,
        "model": run.select("model", "name") or "–",
        "data": run.select("data", "name") or "–",
        "seed": run.select("seed"),
        "miou": 100 * run.miou,
        "interval": None if interval is None else [100 * bound for bound in interval],
        "split": _split(run) + (", in part" if _scored_on(run)[0] else ""),
        "best": 100 * best[0],
        "best_step": best[1],
        "steps": run.last_step,
        "speed": None if speed is None else float(np.median(speed[1])),
    }


def _charts(runs: Sequence[Run], names: Sequence[str]) -> list[Markup]:
    miou, loss = [], []
    for color, (name, run) in enumerate(list(zip(names, runs, strict=True))[:COLORS]):
        word, curves = f"#{color + 1} {name}", learning_curves(run.curves)
        if curves.miou is not None:
            miou.append(Curve(word, curves.miou, color))
        if curves.mean_loss is not None:
            loss.append(Curve(word, curves.mean_loss, color))
    drawn = [
        chart(miou, title="Validation mIoU", unit="%", floor=0),
        chart(loss, title="Training loss", unit="loss"),
    ]
    return [figure for figure in drawn if figure]


def _classes(runs: Sequence[Run]) -> list[tuple[str, list[tuple[float | None, float | None]]]]:
    """Class -> its IoU in each run, and how far that is from the first run's, both in percent."""
    found = [run.scores[0].content.get("iou") or {} if run.scores else {} for run in runs]
    rows = []
    for name in dict.fromkeys(name for iou in found for name in iou):
        values = [iou.get(name) for iou in found]
        first = values[0]
        changes = [None if value is None or first is None else value - first for value in values]
        rows.append((name, list(zip(map(percent, values), map(percent, changes), strict=True))))
    return rows


def _settings(run: Run) -> dict[str, str]:
    place = str(run.config.get("run_dir", ""))
    pairs = flat({name: value for name, value in run.config.items() if name not in _OF_PLACE})
    return {name: value for name, value in pairs.items() if not (place and value.startswith(place))}


def _different(found: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Setting -> its value in each run, where they are not all the same."""
    names = dict.fromkeys(name for pairs in found for name in pairs)
    values = {name: [pairs.get(name, "–") for pairs in found] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}
