"""Line charts as inline SVG; colours are CSS variables, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .curves import thinned
from .html_templates import render_part

__all__ = ["COLORS", "Curve", "chart"]

COLORS = 8  # --c0 to --c7 in style.css
_WIDTH, _HEIGHT = 480, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 30
_MAX_POINTS = 600  # per curve, more than the pixels it is drawn on


@dataclass(frozen=True)
class Curve:
    """One line: ``points`` are (2,N) steps and values; ``color`` counts from 0; faint ones have no place in the key."""

    name: str
    points: np.ndarray
    color: int = 0
    faint: bool = False


def chart(
    curves: Sequence[Curve],
    *,
    title: str,
    unit: str,
    floor: float | None = None,
    star: tuple[float, float] | None = None,
) -> Markup:
    """A ``<figure>`` with the lines, their axes and their key; empty markup where there is nothing to draw.

    Args:
        curves: what is drawn, in this order.
        title: goes over it.
        unit: of the values, for the axis and for screen readers.
        floor: lowest value of the axis; the data decide where it is not given.
        star: a point to mark.
    """
    if not curves:
        return Markup("")
    values = np.concatenate([curve.points[1] for curve in curves])
    ticks = _ticks(values.min() if floor is None else min(floor, values.min()), values.max())
    steps = _ticks(0, max(1, max(curve.points[0, -1] for curve in curves)))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(step: float) -> float:
        return _LEFT + step / steps[-1] * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - _TOP)

    def places(curve: Curve) -> list[str]:
        return [f"{x(step):.1f},{y(value):.1f}" for step, value in thinned(curve.points, _MAX_POINTS).T]

    return render_part(
        "chart.html",
        title=title,
        unit=unit,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=right,
        x=x,
        y=y,
        ticks=ticks,
        steps=steps,
        drawn=[(curve, places(curve)) for curve in curves],
        named=[curve for curve in curves if not curve.faint],
        star=star,
        colors=COLORS,
    )


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around ``low`` to ``high``."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= span / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]
