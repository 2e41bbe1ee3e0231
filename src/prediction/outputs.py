"""What a prediction writes: pictures as arrays, and ``areas.csv`` with the pixels of each class.

Images are (H,W,3) uint8 RGB; labels (H,W) uint8 train ids; confidence (H,W) uint8 floor(255 p).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError, nearest
from ..files.atomic import write_bytes
from ..files.csv_text import cell, csv_text, text_of
from ..reports import pictures
from .output_record import writing

__all__ = ["AREAS", "IMAGE_KINDS", "Areas", "Label", "Maps", "Pictures", "Task", "chosen_kinds"]

AREAS = "areas.csv"
IMAGE_KINDS = ("index", "color", "overlay", "confidence", "attention", "area")
_VIDEO_KINDS = ("overlay", "color", "area")
_HEAD = ("image", "class", "pixels", "share")

# (B,H,W,3) images -> (B,H,W) labels, and their confidence where it is asked for
Label = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
# attention and weights of each scale, (S,H,W) float from 0 to 1
Maps = tuple[np.ndarray, np.ndarray]


def chosen_kinds(save: str | Sequence[str] | None, *, video: bool) -> tuple[str, ...]:
    """The kinds of output that ``save`` names; ``None`` stands for the usual ones.

    Raises:
        UserError: for a kind that does not exist, or not for a video.
    """
    known = _VIDEO_KINDS if video else IMAGE_KINDS
    if save is None:
        return ("overlay",) if video else ("index", "color", "overlay")
    kinds = (save,) if isinstance(save, str) else tuple(save)
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or not kinds:
        what = "takes of a video" if video else "takes"
        hint = nearest(str(unknown[0]), known) if unknown else ""
        raise UserError(f"save={unknown or list(kinds)} is not among what it {what}: {', '.join(known)}.{hint}")
    return kinds


class Pictures(NamedTuple):
    """Makes the pictures ``kinds`` of a prediction.

    ``attention`` gives an image's (H,W,3) maps of attention; ``scales`` are their factors, for captions.
    """

    kinds: tuple[str, ...]
    classes: pictures.Classes
    alpha: float
    scales: Sequence[float] = ()
    attention: Callable[[np.ndarray], Maps] | None = None

    def make(self, image: np.ndarray | None, label: np.ndarray, confidence: np.ndarray | None) -> dict[str, np.ndarray]:
        """Kind -> (H,W) or (H,W,3) uint8, without attention; overlays need the image, confidence is handed on."""
        palette = self.classes.palette
        made: dict[str, np.ndarray] = {}
        for kind in self.kinds:
            if kind == "index":
                made[kind] = label
            elif kind == "color":
                made[kind] = pictures.colorize(label, palette)
            elif kind == "overlay" and image is not None:
                made[kind] = pictures.overlay(image, label, palette, self.alpha)
            elif kind == "confidence" and confidence is not None:
                made[kind] = confidence
        return made

    def attention_figure(self, image: np.ndarray, label: np.ndarray, maps: Maps, *, name: str) -> np.ndarray:
        """Two captioned rows, as in the figures of arXiv 2005.10821: attention of each scale, and the weight it gets.

        Args:
            image: one image.
            label: its prediction.
            maps: attention and weights, from 0 (black) to 1 (white); only the weights sum to 1.
            name: goes over the image.
        """
        unused = None
        if not np.array_equal(*maps):  # hierarchical attention: nothing is finer than the largest scale
            unused = self.scales[-1]
        first, second = {name: image}, {"prediction": pictures.colorize(label, self.classes.palette)}
        for scale, attention, weight in zip(self.scales, *maps, strict=True):
            first[f"attention {scale:g}x{'   (not used)' if scale == unused else ''}"] = _grey(attention)
            second[f"weight {scale:g}x   mean {float(weight.mean()):.2f}"] = _grey(weight)
        return pictures.stack_rows([pictures.row(first), pictures.row(second)])

    def areas(self, label: np.ndarray) -> np.ndarray:
        """(K,) pixels of each class."""
        return np.bincount(label.ravel(), minlength=256)[: len(self.classes.names)]


def _grey(values: np.ndarray) -> np.ndarray:
    """(H,W) from 0 to 1 -> (H,W,3) uint8."""
    return np.repeat((255 * values.clip(0, 1)).round().astype(np.uint8)[..., None], 3, axis=2)


class Areas:
    """Rows ``image, class, pixels, share``, one per class of each image, in a file that is only ever added to.

    Args:
        path: of the file; one that exists is continued.
        names: of the classes.

    Names in the cells are those that ``csv_text`` makes of them.

    Raises:
        UserError: if a file that exists is no CSV.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._names = path, tuple(names)
        rows = Counter(row[0] for row in self._rows())
        self.done = {image for image, count in rows.items() if count == len(self._names)}

    def _rows(self) -> Iterator[list[str]]:
        if not self._path.is_file():
            return
        try:
            with self._path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                for row in csv.reader(file):
                    if len(row) == len(_HEAD) and row != list(_HEAD):
                        yield [*map(text_of, row[:2]), *row[2:]]
        except csv.Error as error:
            raise UserError(f"{self._path}: is broken ({error}); remove it, and all areas are counted again") from error

    def start(self, stays: Callable[[str], bool]) -> None:
        """Begins to write: what is there stays if it is whole and ``stays(image)``."""
        kept = [row for row in self._rows() if row[0] in self.done and stays(row[0])]
        with writing(self._path):
            write_bytes(self._path, _text([_HEAD, *kept]))

    def add(self, image: str, pixels: np.ndarray) -> None:
        """(K,) pixels of each class of one image."""
        total = max(1, int(pixels.sum()))
        rows = [(image, name, count, f"{count / total:.6f}") for name, count in zip(self._names, pixels, strict=True)]
        with writing(self._path), self._path.open("ab") as file:
            file.write(_text(rows))


def _text(rows: Sequence[Sequence[object]]) -> bytes:
    cells = ([*map(cell, map(str, row[:2])), *row[2:]] for row in rows)
    return csv_text(cells).encode(errors="surrogateescape")


class Task(NamedTuple):
    """What is done with every image or frame of a prediction.

    ``label`` is the net and gets at most ``batch_size`` images of one size together; ``pictures`` says what to write,
    ``areas`` where pixels of classes are noted, if at all.
    """

    label: Label
    pictures: Pictures
    areas: Areas | None
    batch_size: int
