"""A sweep in pictures, drawn with matplotlib."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.sweeps.results import Result
from src.sweeps.spec import Sweep
from src.sweeps.table import Cost

__all__ = ["draw"]

_OURS, _PUBLISHED, _INK = "#2f6db5", "#d9692a", "#111827"


def draw(sweep: Sweep, found: Sequence[Result], costs: Mapping[int, Cost]) -> dict[str, bytes]:
    """PNG files by name: bars with the spread of the seeds, and the score against time and multiply-adds."""
    known = [result for result in found if result.mean is not None]
    if not known:
        return {}
    return {"bars.png": _bars(sweep, known), "cost.png": _against_cost(sweep, known, costs)}


def _bars(sweep: Sweep, known: Sequence[Result]) -> bytes:
    """Ours, and in a panel of its own with its own scale what is published, which was measured elsewhere."""
    published = {place: result.row.published for place, result in enumerate(known) if result.row.published is not None}
    figure, places = Figure(figsize=(12 if published else 8, 1.4 + 0.4 * len(known))), range(len(known))
    panels = figure.subplots(1, 2 if published else 1, sharey=True, squeeze=False)[0]
    means, spreads = [100 * result.mean for result in known], [100 * (result.spread or 0.0) for result in known]
    panels[0].barh(places, means, xerr=spreads, color=_OURS, ecolor=_INK, capsize=3)
    for place, result in zip(places, known, strict=True):
        values = [100 * value for value in result.values]
        panels[0].plot(values, [place] * len(values), ".", color=_INK, markersize=4)
    every = [100 * value for result in known for value in result.values]
    _name(panels[0], every, f"ours: {sweep.objective} %, mean ± standard deviation, seeds as dots")
    if published:
        panels[1].barh([*published], [*published.values()], color=_PUBLISHED)
        _name(panels[1], [*published.values()], f"published: {sweep.source}, {sweep.published_on}"[:80])
    panels[0].set_yticks(places, [result.row.name for result in known])
    panels[0].invert_yaxis()
    figure.tight_layout()
    return _png(figure)


def _name(axes: Axes, values: Sequence[float], label: str) -> None:
    """Cuts the axis close to the values: differences are what counts."""
    margin = max(1.0, 0.25 * (max(values) - min(values)))
    axes.set_xlim(max(0.0, min(values) - margin), max(values) + margin)
    axes.set_xlabel(f"{label}; axis cut", fontsize=8)


def _against_cost(sweep: Sweep, known: Sequence[Result], costs: Mapping[int, Cost]) -> bytes:
    figure = Figure(figsize=(12, 4.5))
    panels = {
        "minutes of a trial": {result.row.index: statistics.mean(result.seconds) / 60 for result in known},
        "G multiply-adds of one image": {index: macs / 1e9 for index, (_, macs) in costs.items()},
    }
    for number, (label, places) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        for result in (result for result in known if result.row.index in places):
            place, spread = places[result.row.index], 100 * (result.spread or 0.0)
            axes.errorbar(place, 100 * result.mean, yerr=spread, fmt="o", color=_OURS, ecolor=_INK, capsize=3)
            axes.annotate(result.row.name, (place, 100 * result.mean), (5, 5), textcoords="offset points", fontsize=8)
        axes.set_xlabel(label)
        axes.set_ylabel(f"{sweep.objective} %")
        axes.margins(0.15)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    return stream.getvalue()
