"""The report of a sweep, Markdown and HTML: the table of a paper with our column beside the published one."""

from __future__ import annotations

import base64
import datetime
import statistics
from collections.abc import Sequence
from pathlib import Path

from ..files.atomic import write_bytes
from ..files.text_table import markdown_table
from ..reports.html_templates import render_page
from .cost import Costs
from .plots import draw
from .results import Result
from .spec import Sweep

__all__ = ["page", "tell_apart", "text", "write_report"]


def text(sweep: Sweep, found: Sequence[Result], costs: Costs, pictures: Sequence[Path]) -> str:
    """Markdown, whose table reads well on a console too; ``pictures`` are beside the file."""
    lines = markdown_table(_head(sweep, costs), [_cells(sweep, result, costs) for result in found])
    parts = [f"# {sweep.title}", "\n".join(f"- {fact}" for fact in _facts(sweep, found, costs)), "\n".join(lines)]
    failures = [f"- failed: `{name}`: {message}" for result in found for name, message in result.failures]
    parts += ["\n".join(failures)] if failures else []
    parts += [tell_apart(sweep, found), *(f"![{path.stem}]({path.name})" for path in pictures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(sweep: Sweep, found: Sequence[Result], costs: Costs, pictures: Sequence[Path]) -> str:
    """HTML that asks for no other file."""
    images = [(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in pictures]
    return render_page(
        "sweep.html",
        title=sweep.title,
        facts=_facts(sweep, found, costs),
        head=_head(sweep, costs),
        rows=[_cells(sweep, result, costs) for result in found],
        failures=[failure for result in found for failure in result.failures],
        sentence=tell_apart(sweep, found),
        images=images,
    ).decode()


def _facts(sweep: Sweep, found: Sequence[Result], costs: Costs) -> list[str]:
    data = sorted(set().union(*(result.data for result in found))) if found else []
    states = {state: sum(result.states.get(state, 0) for result in found) for state in _STATES}
    counted = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    published = f"{sweep.source}, on {sweep.published_on}" if sweep.published_on else sweep.source
    seeds, where = ", ".join(map(str, sweep.seeds)), "; ".join(data) or "nothing scored yet"
    facts = [f"ours: {where}; {sweep.objective}, mean ± standard deviation, seeds {seeds}"]
    facts += ["parameters without auxiliary heads; multiply-adds of one image of a training crop's size"]
    facts += [f"latency: {costs.timed}"] if costs.timed else []
    facts += [f"published: {published}"] if sweep.source else []
    facts += [f"options of all trials: {' '.join(sweep.fixed)}"] if sweep.fixed else []
    return [*facts, f"trials: {counted or 'none yet'}"]


_STATES = ("done", "failed", "pruned", "started", "waiting")


def _head(sweep: Sweep, costs: Costs) -> list[str]:
    latency = ["latency ms"] if any(cost.seconds for cost in costs.of.values()) else []
    published = ["published"] if any(row.published is not None for row in sweep.rows) else []
    known = ["trial", sweep.column, "seeds", "parameters M", "G multiply-adds", *latency, "time", *published]
    return [*known, "options"]


def _cells(sweep: Sweep, result: Result, costs: Costs) -> list[str]:
    mean, spread, row = result.mean, result.spread, result.row
    score = "–" if mean is None else sweep.shown(mean) + (f" ± {sweep.shown(spread)}" if spread is not None else "")
    cost, head = costs.of.get(row.index), _head(sweep, costs)
    states = [f"{result.states[state]} {state}" for state in _STATES[1:] if result.states.get(state)]
    cells = [
        row.name,
        score,
        ", ".join([str(len(result.values)), *states]),
        "–" if cost is None else f"{cost.parameters / 1e6:.2f}",
        "–" if cost is None else _three(cost.multiply_adds / 1e9),
    ]
    if "latency ms" in head:
        cells.append("–" if cost is None or cost.milliseconds is None else _three(cost.milliseconds))
    cells.append(str(datetime.timedelta(seconds=round(statistics.mean(result.seconds)))) if result.seconds else "–")
    if "published" in head:
        figure = "–" if row.published is None else f"{row.published:.2f}"
        cells.append(f"{figure} ({row.note})" if row.note else figure)
    return [*cells, " ".join(row.options)]


def _three(number: float) -> str:
    """At least three digits."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}".rstrip(".")


def tell_apart(sweep: Sweep, found: Sequence[Result]) -> str:
    """A sentence on which rows differ from the best one by more than the spread over seeds, and which do not."""
    known = [result for result in found if result.values]
    if len(known) < 2:
        return ""
    if any(len(result.values) < 2 for result in known):
        return "Rows with one seed have no spread, so no order of rows is claimed."
    means = [statistics.mean(result.values) for result in known]
    place = means.index(max(means) if sweep.direction == "maximize" else min(means))
    best = known[place]
    near = [
        result.row.name
        for result, mean in zip(known, means, strict=True)
        if result is not best and abs(means[place] - mean) <= 2 * _error(best, result)
    ]
    beside = f"; not distinguishable from it: {', '.join(near)}" if near else "; the others lie further below"
    return (
        f"Best mean: {best.row.name}{beside}. Rows count as different if they differ by more than two standard errors"
        " of the difference, which with so few seeds is a hint and no proof."
    )


def _error(first: Result, second: Result) -> float:
    """Standard error of the difference of two means."""
    return sum(statistics.variance(result.values) / len(result.values) for result in (first, second)) ** 0.5


def write_report(sweep: Sweep, found: Sequence[Result], costs: Costs, folder: Path) -> str:
    """Writes ``report.md``, ``report.html`` and pictures into the sweep's folder; returns what to print."""
    pictures = {folder / name: content for name, content in draw(sweep, found, costs).items()}
    for path, content in pictures.items():
        write_bytes(path, content)
    written = text(sweep, found, costs, list(pictures))
    write_bytes(folder / "report.md", written.encode())
    write_bytes(folder / "report.html", page(sweep, found, costs, list(pictures)).encode())
    return f"{written.split('![')[0].rstrip()}\n\nreport: {folder / 'report.md'}, {folder / 'report.html'}"
