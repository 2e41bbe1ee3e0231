"""``areas.csv``: how many pixels of each image each class has."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from src.errors import UserError
from src.files.atomic import write_bytes
from src.files.csv_text import cell, csv_text, text_of
from src.prediction.output_record import writing

__all__ = ["AREAS", "Areas"]

AREAS = "areas.csv"
_HEAD = ("image", "class", "pixels", "share")


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
            raise UserError(f"{self._path}: is broken ({error}); remove it, and all areas are counted anew") from error

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
