"""Charts: learning curves from the history, class bars and confusion matrix from the scores, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..files.atomic import write_bytes
from ..metrics import Scores
from .curves import LearningCurves, learning_curves, thinned
from .pictures import Classes
from .run_folder import read_history

__all__ = ["draw_curves", "draw_scores"]

BLUE, ORANGE, INK, GREY, PALE = "#2f6db5", "#d9692a", "#111827", "#6b7280", "#e5e7eb"
_MAX_POINTS = 1500  # per curve: more than the pixels they are drawn on
_MAX_NUMBERED = 30  # classes up to which the cells of a confusion matrix have room for numbers
_MARGINS = {"left": 0.065, "right": 0.98, "top": 0.93, "bottom": 0.09, "hspace": 0.5, "wspace": 0.15}


def draw_curves(history: Path, folder: Path) -> None:
    """Draw ``learning_curves.png``: loss, learning rates, and the validation scores with the best point marked.

    Args:
        history: the file that ``History`` writes.
        folder: where the picture goes.
    """
    curves = learning_curves(read_history(history))
    figure = Figure(figsize=(12, 5.6))
    axes = figure.subplot_mosaic([["loss", "val"], ["lr", "val"]], height_ratios=[2, 1], gridspec_kw=_MARGINS)
    _draw_loss(axes["loss"], curves)
    _draw_rates(axes["lr"], curves)
    _draw_validation(axes["val"], curves)
    drawn = (curves.loss, curves.miou, curves.pixel_accuracy, *curves.rates.values())
    last = max((curve[0, -1] for curve in drawn if curve is not None), default=1)
    for part in axes.values():
        part.set_xlim(0, 1.03 * last)
        part.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        part.xaxis.set_major_formatter("{x:,.0f}")
    _save(figure, folder / "learning_curves.png")


def draw_scores(scores: Scores, label_space: Classes, folder: Path) -> None:
    """Draw ``per_class_iou.png`` and ``confusion_matrix.png`` into ``folder``.

    Args:
        scores: of one validation or test.
        label_space: names and colours of the classes.
        folder: made if it is missing.
    """
    _draw_bars(scores, label_space, folder / "per_class_iou.png")
    _draw_confusion(scores, label_space.names, folder / "confusion_matrix.png")


def _plot(axes: Axes, curve: np.ndarray, *, color: str | None, label: str | None = None, faint: bool = False) -> None:
    steps, values = thinned(curve, _MAX_POINTS)
    marker = "o" if len(steps) <= 40 and not faint else ""
    alpha, width = (0.3, 1) if faint else (1, 1.8)
    axes.plot(steps, values, color=color, label=label, alpha=alpha, linewidth=width, marker=marker, markersize=3.5)


def _draw_loss(axes: Axes, curves: LearningCurves) -> None:
    if curves.loss is not None and curves.mean_loss is not None:
        if curves.mean_loss.shape != curves.loss.shape:  # else the mean is the loss itself
            _plot(axes, curves.loss, color=BLUE, faint=True)
        _plot(axes, curves.mean_loss, color=BLUE)
    _style(axes, "Training loss", "loss")


def _draw_rates(axes: Axes, curves: LearningCurves) -> None:
    for name, curve in curves.rates.items():
        _plot(axes, curve, color=None, label=name)
    if curves.rates:
        for text in axes.legend(frameon=False, fontsize=8.5).get_texts():
            text.set_parse_math(False)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    _style(axes, "Learning rate", "rate")


def _draw_validation(axes: Axes, curves: LearningCurves) -> None:
    if curves.pixel_accuracy is not None:
        _plot(axes, curves.pixel_accuracy, color=ORANGE, label="pixel accuracy")
    if curves.miou is not None:
        _plot(axes, curves.miou, color=BLUE, label="mean IoU")
        _mark_best(axes, *curves.miou)
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=9.5)
    _style(axes, "Validation", "percent")


def _mark_best(axes: Axes, steps: np.ndarray, miou: np.ndarray) -> None:
    if np.isnan(miou).all():
        return
    best = int(np.nanargmax(miou))
    axes.plot(steps[best], miou[best], "*", color=BLUE, markersize=16, markeredgecolor="white", zorder=5)
    axes.axhline(miou[best], color=BLUE, linewidth=0.9, linestyle=":")
    text = f"best mean IoU {miou[best]:.2f} % at step {steps[best]:,.0f}"
    axes.set_title(text, loc="right", fontsize=9.5, color=BLUE)


def _draw_bars(scores: Scores, label_space: Classes, path: Path) -> None:
    iou = 100 * scores.iou.numpy()
    order = np.argsort(-iou)  # best first; nan, the absent classes, last
    present = order[: np.isfinite(iou).sum()]
    names = [label_space.names[index] for index in order]
    room, row_height = _label_room(names), 0.26 if len(names) <= 40 else 0.2
    figure, axes = _canvas(width=room + 6.4, height=row_height * len(names), left=room, right=0.25, top=0.4, bottom=0.6)
    colors = np.asarray(label_space.colors)[present] / 255
    axes.barh(range(len(present)), iou[present], color=colors, edgecolor=GREY, linewidth=0.6, height=0.76)
    axes.axvline(100 * scores.miou, color=INK, linewidth=1.1, linestyle="--", zorder=0.9)
    plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # keeps a value readable on the line of the mean
    for row, value in enumerate(iou[present]):
        axes.text(value + 0.9, row, f"{value:.1f}", va="center", fontsize=8.5, color=INK, bbox=plate)
    for row in range(len(present), len(names)):
        axes.text(0.9, row, "absent from truth and prediction", va="center", fontsize=8.5, color=GREY, style="italic")
    axes.set_yticks(range(len(names)), names, fontsize=9, parse_math=False)  # a class may be named $a_$
    for text in axes.get_yticklabels()[len(present) :]:
        text.set_color(GREY)
    axes.set(xlim=(0, 105), ylim=(len(names) - 0.4, -0.6))
    axes.set_title(f"mean IoU {100 * scores.miou:.2f} %  (dashed)", loc="right", fontsize=9.5)
    _style(axes, "IoU per class", "", "IoU in percent")
    axes.grid(False, axis="y")
    _save(figure, path)


def _draw_confusion(scores: Scores, names: Sequence[str], path: Path) -> None:
    matrix = scores.matrix.double().numpy()
    with np.errstate(invalid="ignore"):
        percent = 100 * matrix / matrix.sum(1, keepdims=True)  # a class that the truth lacks becomes a row of nan
    numbered = len(names) <= _MAX_NUMBERED
    size, cell = (9, 0.42) if numbered else (7, 0.13)
    room, side = _label_room(names, size), max(3.2, cell * len(names))
    figure, axes = _canvas(
        width=room + side + 0.4, height=side, left=room + 0.2, right=0.2, top=0.4, bottom=room + 0.25
    )
    axes.set_facecolor("#d1d5db")
    norm = PowerNorm(0.5, vmin=0, vmax=100)  # the square root lets rare confusions show
    axes.imshow(percent, cmap="Blues", norm=norm, interpolation="nearest", aspect="auto")
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    if numbered:
        for row, column in np.argwhere(percent >= 0.5):
            value = percent[row, column]
            ink = "white" if norm(value) > 0.6 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
    axes.set(xlabel="prediction", ylabel="truth")
    axes.set_title("Confusion, in percent of the truth", loc="left", fontsize=11, fontweight="bold")
    _save(figure, path)


def _canvas(
    *, width: float, height: float, left: float, right: float, top: float, bottom: float
) -> tuple[Figure, Axes]:
    """A figure around axes ``height`` high, all in inches. Margins known beforehand cost no layout pass."""
    whole = height + top + bottom
    figure = Figure(figsize=(width, whole))
    return figure, figure.add_axes((left / width, bottom / whole, (width - left - right) / width, height / whole))


def _label_room(names: Sequence[str], size: float = 9) -> float:
    """Inches that the longest name takes in a font of ``size`` points, at 0.62 em a letter."""
    return max(map(len, names)) * size * 0.62 / 72 + 0.2


def _style(axes: Axes, title: str, ylabel: str, xlabel: str = "step") -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)  # a bare Figure draws with Agg: no window system, no global state
    write_bytes(path, picture.getvalue())
