"""What a threshold on confidence leaves of machine-made labels, counted image by image.

Hard labels with a map of confidence beside them are those of hierarchical multi-scale attention (arXiv 2005.10821,
section 4.3). The threshold is applied when they are loaded, so that it can change without labelling again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.files.csv_text import cell, csv_text

__all__ = ["THRESHOLDS", "Survival"]

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(10, 20))  # 0.5 to 0.95; the paper takes 0.9


class Survival:
    """Pixels by class and confidence, (K,256) int64 however many images there are.

    Args:
        names: of the classes, in the order of their ids.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.counts = np.zeros((len(self.names), 256), np.int64)

    def add(self, label: np.ndarray, confidence: np.ndarray) -> None:
        """Counts one image: (H,W) uint8 train ids, all of them classes, and (H,W) uint8 floor(255 p)."""
        keys = (label.astype(np.uint16) << 8) | confidence
        self.counts += np.bincount(keys.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def shares(self, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
        """(K,T) float64: the part of each class's pixels that ``data.min_confidence`` keeps; nan for absent classes."""
        kept = np.arange(256)[:, None] >= 255 * np.asarray(thresholds)
        with np.errstate(invalid="ignore"):
            return (self.counts @ kept) / self.counts.sum(1, keepdims=True)

    def table(self) -> str:
        """Aligned text: share of all pixels, and percent of them kept, by class and threshold."""
        width = max(map(len, [*self.names, "all classes"]))
        total = self._total()
        head = f" {'class':<{width}}  pixels %  " + "".join(f"{threshold:>7.2f}" for threshold in THRESHOLDS)
        rows = [" of the pixels given to a class, percent that keep it at data.min_confidence=T, for T of"]
        for name, part, shares in zip(
            [*self.names, "all classes"],
            [*self.counts.sum(1), total.counts.sum()],
            [*self.shares(), total.shares()[0]],
            strict=True,
        ):
            cells = "".join(f"{'–':>7}" if np.isnan(share) else f"{100 * share:7.1f}" for share in shares)
            rows.append(f" {name:<{width}}  {100 * part / max(1, total.counts.sum()):8.2f}  {cells}")
        return "\n".join([rows[0], head, *rows[1:]])

    def csv(self) -> str:
        """The same as fractions: ``class,pixels,0.50,...`` with a row for each class, empty where it is absent."""
        head = ["class", "pixels", *(f"{threshold:.2f}" for threshold in THRESHOLDS)]
        rows = (
            [cell(name), pixels, *("" if np.isnan(share) else f"{share:.6f}" for share in shares)]
            for name, pixels, shares in zip(self.names, self.counts.sum(1), self.shares(), strict=True)
        )
        return csv_text([head, *rows])

    def _total(self) -> Survival:
        whole = Survival(["all classes"])
        whole.counts = self.counts.sum(0, keepdims=True)
        return whole
