"""Line charts as inline SVG; colours are CSS variables, so that they follow light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

__all__ = ["COLORS", "Curve", "chart", "smoothed"]

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


def smoothed(points: np.ndarray) -> np.ndarray:
    """The running mean over a thirtieth of the points, at the middle step of its window."""
    window = 1 + 2 * (points.shape[1] // 60)
    mean = np.convolve(points[1], np.full(window, 1 / window), "valid")
    return np.stack([points[0, window // 2 :][: len(mean)], mean])


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
    frame = _Frame(steps[-1], ticks[0], ticks[-1])
    marks = [_gridline(frame, value) for value in ticks]
    marks += [_step(frame, value) for value in steps]
    marks += [_line(frame, curve) for curve in curves]
    if star is not None:
        marks.append(f'<circle class="best" cx="{frame.x(star[0]):.1f}" cy="{frame.y(star[1]):.1f}" r="4.5"/>')
    named = [curve for curve in curves if not curve.faint]
    ends = "; ".join(f"{curve.name} ends at {curve.points[1, -1]:.4g} {unit}" for curve in named)
    label = html.escape(f"{title} by step: {ends}")
    drawn = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(marks)}</svg>'
    key = "".join(f'<li><i class="line c{curve.color % COLORS}"></i>{html.escape(curve.name)}</li>' for curve in named)
    heading = f"<figcaption>{html.escape(title)} <small>{html.escape(unit)}, by step</small></figcaption>"
    return Markup(f'<figure class="chart">{heading}{drawn}<ul class="key">{key}</ul></figure>')


@dataclass(frozen=True)
class _Frame:
    steps: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return _LEFT + step / self.steps * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def _line(frame: _Frame, curve: Curve) -> str:
    steps, values = curve.points[:, :: -(-curve.points.shape[1] // _MAX_POINTS)]
    points = [f"{frame.x(step):.1f},{frame.y(value):.1f}" for step, value in zip(steps, values, strict=True)]
    style = f"c{curve.color % COLORS}{' faint' if curve.faint else ''}"
    line = f'<polyline class="{style}" points="{" ".join(points)}"/>'
    if len(points) > 1 or curve.faint:
        return line
    x, y = points[0].split(",")
    return f'<circle class="{style}" cx="{x}" cy="{y}" r="3"/>'


def _gridline(frame: _Frame, value: float) -> str:
    y = frame.y(value)
    line = f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{round(value, 12):g}</text>'


def _step(frame: _Frame, value: float) -> str:
    text = f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"
    anchor = "end" if value == frame.steps else "middle"
    return f'<text x="{frame.x(value):.1f}" y="{_HEIGHT - 10}" text-anchor="{anchor}">{text}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around ``low`` to ``high``."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= span / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]
