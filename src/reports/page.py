"""``report.html``: one run on one page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ..errors import UserError
from ..files.atomic import write_bytes
from ..files.run_files import REPORT
from .album import Album
from .curves import learning_curves, smoothed
from .html_templates import number, render_page
from .remarks import remark
from .run_folder import Run
from .score_tables import class_rows, confusion, flat
from .scores_file import ScoreFile
from .svg_charts import Curve, chart

__all__ = ["refresh_page", "write_page"]


def write_page(folder: str | Path) -> Path:
    """Writes ``report.html`` into a run folder from the files there, in one move; returns its path.

    Raises:
        UserError: for a folder without results, or with a broken file.
    """
    run = Run(Path(folder))
    if not run.holds_results:
        raise UserError(
            f"{folder}: holds neither metrics.csv nor scores_<split>.json; name the folder of a run of src.train or"
            " src.evaluate"
        )
    album = Album(run.folder)
    model, data = run.select("model", "name"), run.select("data", "name")
    pictures = {"worst": album.worst_images(), "panels": album.validation(), "of_classes": album.worst_of_classes()}
    page = render_page(
        "run.html",
        title=f"{model} on {data}" if model and data else str(data or run.folder.resolve().name),
        folder=run.folder.resolve().name,
        facts=_facts(run),
        remark=remark(run),
        charts=_charts(run),
        scores=[(file, class_rows(file.content), confusion(file.content)) for file in run.scores],
        pictures=pictures,
        left_out=[str(path) for path in album.left_out],
        protocol=flat(run.scores[0].protocol) if run.scores else {},
        environment=flat(run.environment),
        configs=run.config_texts,
    )
    write_bytes(run.folder / REPORT, page)
    return run.folder / REPORT


def refresh_page(folder: str | Path) -> bool:
    """``write_page`` that never raises: prints one line if it fails; returns whether the page was written."""
    try:
        write_page(folder)
    except Exception as error:  # a page is never worth a run
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"{Path(folder) / REPORT}: not written ({reason}); the run goes on", flush=True)
        return False
    return True


def _facts(run: Run) -> dict[str, str]:
    """The figures at the head of the page, in this order."""
    facts = {}
    best, step = run.best
    if not math.isnan(best):
        facts["best val mIoU"] = f"{100 * best:.2f} % at step {step:,}"
    for file in run.scores[:2]:
        facts[f"{file.split} mIoU"] = _miou(file)
    if run.curves:
        facts["steps"] = f"{run.last_step:,}"
    speed, wait, memory = (
        run.curves.get(f"train/{name}") for name in ("images_per_second", "data_wait", "peak_memory_gb")
    )
    if speed is not None:
        facts["throughput"] = f"{np.median(speed[1]):.1f} images/s"
    if wait is not None:
        facts["waiting for data"] = f"{100 * wait[1].mean():.1f} % of the time"
    if memory is not None:
        facts["GPU memory"] = f"{memory[1].max():.1f} GB"
    if device := run.environment.get("device"):
        facts["device"] = str(device)
    return facts


def _miou(file: ScoreFile) -> str:
    miou, interval = file.content.get("miou"), file.interval
    words = f"{number(None if miou is None else 100 * miou)} %"
    return words if interval is None else f"{words} ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _charts(run: Run) -> list[Markup]:
    """Validation, loss, learning rates, and the share of waiting."""
    curves = learning_curves(run.curves)
    loss, validation, waits = [], [], []
    if curves.loss is not None and curves.mean_loss is not None:
        loss = [Curve("raw", curves.loss, faint=True), Curve("training loss", curves.mean_loss)]
    for color, (name, curve) in enumerate((("mean IoU", curves.miou), ("pixel accuracy", curves.pixel_accuracy))):
        if curve is not None:
            validation.append(Curve(name, curve, color))
    rates = [Curve(name, curve, color) for color, (name, curve) in enumerate(curves.rates.items())]
    if (wait := run.curves.get("train/data_wait")) is not None:
        waits = [Curve("share of waiting", smoothed(wait * [[1], [100]]))]
    best, step = run.best
    drawn = [
        chart(validation, title="Validation", unit="%", floor=0, star=None if math.isnan(best) else (step, 100 * best)),
        chart(loss, title="Training loss", unit="loss"),
        chart(rates, title="Learning rate", unit="rate", floor=0),
        chart(waits, title="Waiting for data", unit="% of training time", floor=0),
    ]
    return [figure for figure in drawn if figure]
