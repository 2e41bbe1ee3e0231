"""How sure a mean IoU is, as far as the choice of images goes, and whether two runs differ by more than chance.

A resample draws as many images as there are, with replacement, and takes the mean IoU of their summed counts (Efron and
Tibshirani: An Introduction to the Bootstrap, 1993, chapters 6 and 13). Two runs are compared on the same resamples; the
p-value is that of an exchange test, for which each image's results change sides by the toss of a coin (chapter 15).
Neither knows of the spread over seeds of training, nor that neighbouring frames of a video are alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .per_image import PerImage

__all__ = ["Comparison", "Interval", "bootstrap", "compare"]

LEVEL = 0.95
_CHUNK = 1 << 22  # draws in memory at once


@dataclass(frozen=True)
class Interval:
    """Percentile interval of level 95 %; pairs of low and high, fractions in 0..1 or their differences.

    ``miou`` is one pair, ``iou`` (K,2), nan for a class that no resample holds.
    """

    miou: tuple[float, float]
    iou: np.ndarray
    resamples: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Second run less first on the same images; ``p_value`` is that of no difference in ``miou``, two-sided."""

    miou: float
    iou: np.ndarray
    interval: Interval
    p_value: float


def bootstrap(images: PerImage, *, resamples: int = 1000, seed: int = 0) -> Interval | None:
    """Interval of mIoU and of each IoU over images; ``None`` for fewer than two images or no resamples."""
    if len(images) < 2 or resamples < 1:
        return None
    hits, union, _ = (count.astype(np.float64) for count in images.counts())
    drawn = [_iou(weights @ hits, weights @ union) for weights in _weights(len(images), resamples, seed)]
    return _interval(np.concatenate(drawn), resamples, seed)


def compare(first: PerImage, second: PerImage, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Paired over images, whose names must be those of both, in one order; two images or more."""
    hits, union = (
        np.stack([one, other]).astype(np.float64)
        for one, other in zip(first.counts()[:2], second.counts()[:2], strict=True)
    )
    before, after = _iou(hits.sum(1), union.sum(1))
    drawn = []
    for weights in _weights(len(first), resamples, seed):
        one, other = (_iou(weights @ hits[run], weights @ union[run]) for run in (0, 1))
        drawn.append(np.column_stack([_mean(other) - _mean(one), other - one]))
    spread = np.concatenate(drawn)
    return Comparison(
        float(_mean(after) - _mean(before)),
        after - before,
        Interval(_pair(spread[:, 0]), _pairs(spread[:, 1:]), resamples, seed),
        _exchanged(hits, union, resamples, seed),
    )


def _exchanged(hits: np.ndarray, union: np.ndarray, resamples: int, seed: int) -> float:
    """Share of exchanges, the real sides among them, whose difference is as large as the real one."""
    generator = np.random.default_rng([seed, 1])
    rows = max(1, _CHUNK // hits.shape[1])
    real, extreme = _mean(_iou(hits.sum(1), union.sum(1))), 1
    least = abs(real[1] - real[0]) - 1e-12
    for start in range(0, resamples, rows):
        tossed = generator.integers(0, 2, (min(rows, resamples - start), hits.shape[1])).astype(np.float64)
        moved = [tossed @ (counts[1] - counts[0]) for counts in (hits, union)]
        one = _iou(hits[0].sum(0) + moved[0], union[0].sum(0) + moved[1])
        other = _iou(hits[1].sum(0) - moved[0], union[1].sum(0) - moved[1])
        extreme += int((np.abs(_mean(other) - _mean(one)) >= least).sum())
    return extreme / (resamples + 1)


def _weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(r,n) float64 how often each image is drawn, a few resamples at a time."""
    generator, rows = np.random.default_rng(seed), max(1, _CHUNK // images)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        yield generator.multinomial(images, np.full(images, 1 / images), size=size).astype(np.float64)


def _iou(hits: np.ndarray, union: np.ndarray) -> np.ndarray:
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def _mean(iou: np.ndarray) -> np.ndarray:
    """Mean over the last axis, nan left out; nan where nothing is left."""
    present = ~np.isnan(iou)
    total, count = np.where(present, iou, 0).sum(-1), present.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _interval(iou: np.ndarray, resamples: int, seed: int) -> Interval:
    return Interval(_pair(_mean(iou)), _pairs(iou), resamples, seed)


def _pairs(values: np.ndarray) -> np.ndarray:
    return np.array([_pair(column) for column in values.T])


def _pair(values: np.ndarray) -> tuple[float, float]:
    valid = values[~np.isnan(values)]
    if not len(valid):
        return float("nan"), float("nan")
    low, high = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
