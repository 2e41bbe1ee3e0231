"""Counts of each image, from which any mean over a choice of images follows: a small index beside the scores."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import UserError
from ..files.csv_text import cell, csv_text, text_of
from ..files.untrusted import MiB, limited

__all__ = ["PerImage", "unique_names"]

_LARGEST = 1024 * MiB  # of a file: some millions of images
_COLUMNS = ("intersection", "predicted", "truth")


class PerImage:
    """Hits, predicted and true pixels of every class in every image; a row for each class that occurs in an image.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.names: list[str] = []
        self._rows: list[np.ndarray] = []  # (m,4) int64 each: class, intersection, predicted, truth

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, matrix: Tensor) -> None:
        """Adds the (K,K) int64 confusion matrix of one image."""
        counts = np.stack([matrix.diagonal().numpy(), matrix.sum(0).numpy(), matrix.sum(1).numpy()], axis=1)
        present = np.flatnonzero(counts.any(1))
        self.names.append(name)
        self._rows.append(np.column_stack([present, counts[present]]))

    def joined(self, others: Iterable[PerImage]) -> PerImage:
        """These images and those of ``others``, by name: the same whatever device saw which image."""
        joint = PerImage(self.num_classes)
        pairs = [pair for part in (self, *others) for pair in zip(part.names, part._rows, strict=True)]
        pairs.sort(key=lambda pair: pair[0])
        joint.names = unique_names(name for name, _ in pairs)
        joint._rows = [rows for _, rows in pairs]
        return joint

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Intersection, union and truth, (n,K) int64 each."""
        dense = np.zeros((3, len(self), self.num_classes), np.int64)
        for index, rows in enumerate(self._rows):
            dense[:, index, rows[:, 0]] = rows[:, 1:].T
        hits, predicted, truth = dense
        return hits, predicted + truth - hits, truth

    def lowest(self, count: int) -> dict[int, list[tuple[int, float]]]:
        """Class -> at most ``count`` images in which it occurs: index among ``names``, and IoU.

        The lowest IoU comes first; of equal ones, that with the most wrong pixels.
        """
        found: dict[int, list[tuple[float, int, int]]] = {}
        for index, rows in enumerate(self._rows):
            for train_id, hits, predicted, truth in rows.tolist():
                union = predicted + truth - hits
                found.setdefault(train_id, []).append((hits / union, hits - union, index))
        return {train_id: [(i, iou) for iou, _, i in sorted(found[train_id])[:count]] for train_id in sorted(found)}

    def poorest(self, count: int) -> list[tuple[int, float]]:
        """At most ``count`` images with the lowest mean IoU: index among ``names``, and that mean.

        It is over the classes in an image or its prediction; images that are all ignored have none and are left out.
        """
        means = [
            (float(np.mean(rows[:, 1] / (rows[:, 2] + rows[:, 3] - rows[:, 1]))), index)
            for index, rows in enumerate(self._rows)
            if len(rows)
        ]
        return [(index, mean) for mean, index in sorted(means)[:count]]

    def to_csv(self, classes: Sequence[str]) -> str:
        """``image,class,iou,intersection,predicted,truth`` in pixels; an image that is all ignored has no class.

        Names in the cells are those that ``csv_text`` makes of them.
        """
        table: list[list[object]] = [["image", "class", "iou", *_COLUMNS]]
        for name, rows in zip(self.names, self._rows, strict=True):
            for train_id, *counts in rows.tolist():
                hits, predicted, truth = counts
                iou = f"{hits / (predicted + truth - hits):.6f}"
                table.append([cell(name), cell(classes[train_id]), iou, *counts])
            if not len(rows):
                table.append([cell(name), "", "", 0, 0, 0])
        return csv_text(table)

    @classmethod
    def read(cls, path: Path, classes: Sequence[str]) -> PerImage:
        """What ``to_csv`` gave for these classes.

        Raises:
            UserError: for a file that is missing, broken, or of other classes.
        """
        ids = {name: train_id for train_id, name in enumerate(classes)}
        remedy = "score the run again with src.evaluate"
        text = limited(path, _LARGEST, remedy=remedy).decode(errors="surrogateescape")
        images: dict[str, dict[int, list[int]]] = {}
        try:
            for row in csv.DictReader(io.StringIO(text, newline=""), restval=""):
                rows = images.setdefault(text_of(row["image"]), {})
                counts = [_pixels(row[column]) for column in _COLUMNS]
                if row["class"]:
                    train_id = ids[text_of(row["class"])]
                    if train_id in rows or counts[0] > min(counts[1:]):
                        raise ValueError(f"class {row['class']} of {row['image']} cannot be so")
                    rows[train_id] = counts
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: is broken or of other classes ({error}); {remedy}") from error
        read = cls(len(classes))
        read.names = list(images)
        read._rows = [
            np.array([[train_id, *counts] for train_id, counts in rows.items()], np.int64).reshape(-1, 4)
            for rows in images.values()
        ]
        return read


def _pixels(cell: str) -> int:
    """A count that sums of many leave within int64."""
    if not (cell.isdecimal() and len(cell) < 16):
        raise ValueError(f"{cell[:40]!r} is no number of pixels")
    return int(cell)


def unique_names(names: Iterable[str]) -> list[str]:
    """Names in their order; of equal ones, which splits that are read together may have, the second gets `` (2)``."""
    seen, unique = Counter(), []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
