"""``report.html``: one run on one page."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from src.errors import UserError
from src.files.atomic import write_bytes
from src.reports.album import Album
from src.reports.remarks import remark
from src.reports.run_folder import Run, ScoreFile
from src.reports.score_tables import class_rows, confusion, flat
from src.reports.svg_charts import Curve, chart, smoothed

__all__ = ["REPORT", "refresh_page", "render", "write_page"]

REPORT = "report.html"
_HOME = Path(__file__).resolve().parent


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
    pictures = {"worst": album.worst_images(), "panels": album.validation(), "of_classes": album.worst_of_classes()}
    page = render(
        "run.html",
        title=_title(run),
        folder=run.folder.resolve().name,
        facts=_facts(run),
        remark=remark(run),
        charts=_charts(run),
        scores=[(file, class_rows(file.content), confusion(file.content)) for file in run.scores],
        pictures=pictures,
        left_out=[str(path) for path in album.left_out],
        protocol=flat(run.scores[0].protocol) if run.scores else {},
        environment=flat(run.environment),
        configs=[(name, run.text(name)) for name in ("config.yaml", "config_resumed.yaml") if run.text(name)],
    )
    write_bytes(run.folder / REPORT, page)
    return run.folder / REPORT


def refresh_page(folder: str | Path) -> bool:
    """``write_page`` that never raises: what goes wrong is told in one line; whether the page was written."""
    try:
        write_page(folder)
    except Exception as error:  # a page is never worth a run
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"{Path(folder) / REPORT}: not written ({reason}); the run goes on", flush=True)
        return False
    return True


def render(template: str, **values: Any) -> bytes:
    """The page that a template makes of ``values``; it may load nothing, and run no script but its own."""
    script = (_HOME / "templates/table.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = (
        _templates()
        .get_template(template)
        .render(
            style=Markup((_HOME / "templates/style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            digest=digest,
            written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            **values,
        )
    )
    return page.encode(errors="replace")


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HOME / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _title(run: Run) -> str:
    model, data = run.select("model", "name"), run.select("data", "name")
    return f"{model} on {data}" if model and data else str(data or run.folder.resolve().name)


def _facts(run: Run) -> dict[str, str]:
    """What one wants to know first, in this order."""
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
    low, high = (file.content.get("interval_over_images") or {}).get("miou") or (None, None)
    interval = "" if low is None or high is None else f" ({100 * low:.2f} to {100 * high:.2f})"
    miou = file.content.get("miou")
    return f"{_number(None if miou is None else 100 * miou)} %{interval}"


def _charts(run: Run) -> list[Markup]:
    """Loss, validation, learning rates, and the share of waiting."""
    percent = [[1], [100]]
    loss, validation = [], []
    if (raw := run.curves.get("train/loss")) is not None:
        loss = [Curve("raw", raw, faint=True), Curve("training loss", smoothed(raw))]
    for color, (name, word) in enumerate((("val/miou", "mean IoU"), ("val/pixel_accuracy", "pixel accuracy"))):
        if name in run.curves:
            validation.append(Curve(word, run.curves[name] * percent, color))
    rates = [(name.removeprefix("lr/"), curve) for name, curve in run.curves.items() if name.startswith("lr/")]
    wait = run.curves.get("train/data_wait")
    waits = [] if wait is None else [Curve("share of waiting", smoothed(wait * percent))]
    best, step = run.best
    drawn = [
        chart(validation, title="Validation", unit="%", floor=0, star=None if math.isnan(best) else (step, 100 * best)),
        chart(loss, title="Training loss", unit="loss"),
        chart([Curve(*rate, place) for place, rate in enumerate(rates)], title="Learning rate", unit="rate", floor=0),
        chart(waits, title="Waiting for data", unit="% of training time", floor=0),
    ]
    return [figure for figure in drawn if figure]
