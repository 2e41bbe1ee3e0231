"""The points of the curves that charts and pages draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["LearningCurves", "learning_curves", "smoothed", "thinned"]

_PERCENT = np.array([[1], [100]])


@dataclass(frozen=True)
class LearningCurves:
    """What tells how a run trains; each is (2,N) float64 steps and values, ``None`` where nothing was logged.

    Attributes:
        loss, mean_loss: of training, each value and its running mean.
        miou, pixel_accuracy: of validation, in percent.
        rates: name of a group of parameters -> its learning rate.
    """

    loss: np.ndarray | None
    mean_loss: np.ndarray | None
    miou: np.ndarray | None
    pixel_accuracy: np.ndarray | None
    rates: dict[str, np.ndarray]


def learning_curves(history: Mapping[str, np.ndarray]) -> LearningCurves:
    """Select what is drawn of the scalars of a run."""
    loss = history.get("train/loss")
    miou, pixel_accuracy = (history.get(f"val/{name}") for name in ("miou", "pixel_accuracy"))
    return LearningCurves(
        loss,
        None if loss is None else smoothed(loss),
        None if miou is None else miou * _PERCENT,
        None if pixel_accuracy is None else pixel_accuracy * _PERCENT,
        {name.removeprefix("lr/"): curve for name, curve in history.items() if name.startswith("lr/")},
    )


def smoothed(curve: np.ndarray) -> np.ndarray:
    """The running mean over a thirtieth of the points, at the middle step of its window, which is odd."""
    window = 1 + 2 * (curve.shape[1] // 60)
    mean = np.convolve(curve[1], np.full(window, 1 / window), "valid")
    return np.stack([curve[0, window // 2 :][: len(mean)], mean])


def thinned(curve: np.ndarray, most: int) -> np.ndarray:
    """Every n-th point of a (2,N) curve, so that ``most`` are left at most."""
    return curve[:, :: -(-curve.shape[1] // most)]
