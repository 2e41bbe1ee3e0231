"""Weights of classes for a loss, counted from the labels of a data set by a rule with a name.

- ``median_frequency`` (Eigen & Fergus 2015, arXiv 1411.4734): median frequency over frequency, where the frequency of a
  class is its share in the valid pixels of the labels that show it;
- ``sqrt_median_frequency``: the square root of it;
- ``inverse_log`` (ENet, arXiv 1606.02147): 1 / ln(1.02 + p), p the share of a class in all valid pixels: 1.42 to 50.5.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...errors import UserError, nearest
from ...files.json_schema import Count
from ...runtime.bars import tqdm
from ..cache import fingerprint, load_json, store_json
from ..source import Source
from ..workers import is_first_process, reading_threads

__all__ = ["CLASS_WEIGHTS", "class_weights", "count_pixels"]

_CHUNK = 64  # labels in flight


def _median_frequency(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    frequency = pixels / valid
    return np.median(frequency) / frequency


CLASS_WEIGHTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "median_frequency": _median_frequency,
    "sqrt_median_frequency": lambda pixels, valid: np.sqrt(_median_frequency(pixels, valid)),
    "inverse_log": lambda pixels, _: 1 / np.log(1.02 + pixels / pixels.sum()),
}
"""Rule -> function of the two counts of ``count_pixels``, of the classes that occur."""


def class_weights(source: Source, rule: str) -> list[float]:
    """One factor per class, to four digits; a class that no label shows has 1.

    The counts are kept in the cache folder until files or label space change.

    Args:
        source: what is trained on.
        rule: a name in ``CLASS_WEIGHTS``.

    Raises:
        UserError: for an unknown rule, a source without a labelled pixel, and labels that cannot be read.
    """
    if rule not in CLASS_WEIGHTS:
        raise UserError(
            f"data.class_weights={rule} is unknown; use {', '.join(CLASS_WEIGHTS)}, a list of one factor per class, or"
            f" null.{nearest(rule, CLASS_WEIGHTS)}"
        )
    key = fingerprint(source, "class pixels 1")
    counts = load_json("class_pixels", key, list[list[Count]])
    if counts is None or [len(row) for row in counts] != [source.label_space.num_classes] * 2:
        counts = count_pixels(source).tolist()
        store_json("class_pixels", key, counts)
    pixels, valid = np.array(counts, np.int64)
    present = pixels > 0
    if not present.any():
        raise UserError(
            f"data.class_weights={rule}: no label of the training split shows a class; check data.splits and the label"
            " map with src.doctor"
        )
    weights = np.ones(len(pixels))
    weights[present] = CLASS_WEIGHTS[rule](pixels[present], valid[present])
    return [float(f"{weight:.4g}") for weight in weights]


def count_pixels(source: Source) -> np.ndarray:
    """(2,K) int64: pixels of each class, and valid pixels of the labels that show it."""
    num_classes = source.label_space.num_classes
    total = np.zeros((2, num_classes), np.int64)
    progress = tqdm(total=len(source), desc="counting classes", unit="label", disable=not is_first_process())
    with progress, ThreadPoolExecutor(reading_threads()) as pool:
        for start in range(0, len(source), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(source)))
            for label in pool.map(lambda index: source.read_label(index), indices):
                if label is not None:
                    pixels = np.bincount(label.reshape(-1), minlength=256)[:num_classes]
                    total[0] += pixels
                    total[1, pixels > 0] += pixels.sum()
                progress.update()
    return total
