"""A sweep in pictures, drawn with matplotlib."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .cost import Costs
from .results import Result
from .spec import Sweep

__all__ = ["draw"]

_OURS, _PUBLISHED, _INK = "#2f6db5", "#d9692a", "#111827"
_MARKERS = "os^Dv"


def draw(sweep: Sweep, found: Sequence[Result], costs: Costs) -> dict[str, bytes]:
    """PNG files by name: bars with the spread of the seeds, and the score against latency and multiply-adds."""
    known = [result for result in found if result.values]
    if not known:
        return {}
    pictures = {"bars.png": _bars(sweep, known), "cost.png": _against_cost(sweep, known, costs)}
    return {name: content for name, content in pictures.items() if content is not None}


def _bars(sweep: Sweep, known: Sequence[Result]) -> bytes:
    """Ours, and in a panel of its own with its own scale what is published, which was measured elsewhere."""
    published = {place: result.row.published for place, result in enumerate(known) if result.row.published is not None}
    figure, places = Figure(figsize=(12 if published else 8, 1.4 + 0.4 * len(known))), range(len(known))
    panels = figure.subplots(1, 2 if published else 1, sharey=True, squeeze=False)[0]
    means = [sweep.unit * statistics.mean(result.values) for result in known]
    spreads = [sweep.unit * (result.spread or 0.0) for result in known]
    panels[0].barh(places, means, xerr=spreads, color=_OURS, ecolor=_INK, capsize=3)
    for place, result in zip(places, known, strict=True):
        values = [sweep.unit * value for value in result.values]
        panels[0].plot(values, [place] * len(values), ".", color=_INK, markersize=4)
    every = [sweep.unit * value for result in known for value in result.values]
    _name(panels[0], every, f"ours: {sweep.column}, mean ± standard deviation, seeds as dots", least=0.01 * sweep.unit)
    if published:
        panels[1].barh([*published], [*published.values()], color=_PUBLISHED)
        _name(panels[1], [*published.values()], f"published: {sweep.source}, {sweep.published_on}"[:80])
    panels[0].set_yticks(places, [result.row.name for result in known])
    panels[0].invert_yaxis()
    figure.tight_layout()
    return _png(figure)


def _name(axes: Axes, values: Sequence[float], label: str, *, least: float = 1.0) -> None:
    """Cuts the axis close to the values, and says so: differences are what counts."""
    margin = max(least, 0.25 * (max(values) - min(values)))
    start = max(0.0, min(values) - margin)
    axes.set_xlim(start, max(values) + margin)
    axes.set_xlabel(f"{label}; axis cut" if start else label, fontsize=8)


def _against_cost(sweep: Sweep, known: Sequence[Result], costs: Costs) -> bytes | None:
    """A point for each row, named in a legend: names beside points run over one another."""
    panels = {"G multiply-adds of one image": {index: cost.multiply_adds / 1e9 for index, cost in costs.of.items()}}
    latency = {index: cost.milliseconds for index, cost in costs.of.items() if cost.milliseconds is not None}
    panels = ({"latency of one image, ms; bars: half of the runs": latency} if latency else {}) | panels
    shown = [result for result in known if result.row.index in costs.of]
    if not shown:
        return None
    figure = Figure(figsize=(6 * len(panels), max(4.5, 1.0 + 0.2 * len(shown))))
    for axes, (label, places) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, result in enumerate(shown):
            if result.row.index not in places:
                continue
            place, low, high = places[result.row.index], *costs.of[result.row.index].quartiles
            axes.errorbar(
                place,
                sweep.unit * statistics.mean(result.values),
                xerr=[[max(0.0, place - low)], [max(0.0, high - place)]] if places is latency else None,
                yerr=None if result.spread is None else sweep.unit * result.spread,
                fmt=_MARKERS[number // 10 % len(_MARKERS)],
                color=f"C{number % 10}",
                capsize=3,
                label=result.row.name,
            )
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(label)
        axes.set_ylabel(sweep.column)
        axes.margins(0.1)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=8, frameon=False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    return stream.getvalue()
