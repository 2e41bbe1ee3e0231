"""What can be written of a prediction, as arrays.

Images are (H,W,3) uint8 RGB; labels (H,W) uint8 train ids; confidence (H,W) uint8 floor(255 p).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from src.reports import pictures

__all__ = ["IMAGE_KINDS", "VIDEO_KINDS", "Label", "Pictures", "attention_figure"]

IMAGE_KINDS = ("index", "color", "overlay", "confidence", "attention", "area")
VIDEO_KINDS = ("overlay", "color", "area")

# (B,H,W,3) images -> (B,H,W) labels, and their confidence where it is asked for
Label = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


class Pictures(NamedTuple):
    """Makes the pictures ``kinds`` of a prediction.

    ``attention`` gives for an image (H,W,3) its maps of attention and of weights, (S,H,W) from 0 to 1.
    """

    kinds: tuple[str, ...]
    classes: pictures.Classes
    alpha: float
    scales: Sequence[float] = ()
    attention: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None

    def make(
        self, image: np.ndarray | None, label: np.ndarray, confidence: np.ndarray | None
    ) -> Mapping[str, np.ndarray]:
        """Kind -> (H,W) or (H,W,3) uint8, of those that need nothing but an image, its label and its confidence."""
        palette = self.classes.palette
        made = {
            "index": lambda: label,
            "color": lambda: pictures.colorize(label, palette),
            "overlay": lambda: pictures.overlay(image, label, palette, self.alpha),
            "confidence": lambda: confidence,
        }
        return {kind: make() for kind, make in made.items() if kind in self.kinds}

    def areas(self, label: np.ndarray) -> np.ndarray:
        """(K,) pixels of each class."""
        return np.bincount(label.ravel(), minlength=256)[: len(self.classes.names)]


def attention_figure(
    image: np.ndarray,
    label: np.ndarray,
    maps: tuple[np.ndarray, np.ndarray],
    scales: Sequence[float],
    classes: pictures.Classes,
    *,
    name: str,
) -> np.ndarray:
    """Two captioned rows, as in the figures of arXiv 2005.10821: attention of each scale, and what each contributes.

    Args:
        image: one image.
        label: its prediction.
        maps: attention and weights, (S,H,W) float from 0 (black) to 1 (white); only the weights sum to 1.
        scales: factors on the image's size, from the smallest on.
        classes: colours of the classes.
        name: goes over the image.
    """
    attention, weights = ([np.repeat(_grey(each)[..., None], 3, axis=2) for each in kind] for kind in maps)
    unused = scales[-1] if not np.array_equal(*maps) else None  # hierarchical: nothing is finer than the largest
    first = {name: image} | {
        f"attention {scale:g}x{'   (not used)' if scale == unused else ''}": each
        for scale, each in zip(scales, attention, strict=True)
    }
    second = {"prediction": pictures.colorize(label, classes.palette)} | {
        f"weight {scale:g}x   mean {float(values.mean()):.2f}": each
        for scale, each, values in zip(scales, weights, maps[1], strict=True)
    }
    return pictures.stack_rows([pictures.row(first), pictures.row(second)])


def _grey(values: np.ndarray) -> np.ndarray:
    return (255 * values.clip(0, 1)).round().astype(np.uint8)
