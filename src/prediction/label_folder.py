"""Machine-made labels on disk: written whole, found again, and never mixed with those of another teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.decoding import image_size, read_label
from src.data.folder.pseudo_labels import MANIFEST
from src.errors import UserError, printable
from src.files.atomic import write_bytes
from src.files.images import SUFFIXES
from src.prediction.output_record import OutputRecord, writing
from src.reports.pictures import save_png

__all__ = ["LabelFolder", "confidence_name"]

_TEXTS = ("classes.txt", "survival.csv")  # which the command writes beside the labels
_NONE = 255  # stands for values in the files that are no class


def confidence_name(name: Path) -> Path:
    """Where the confidence of label ``name`` lies."""
    return name.with_name(f"{name.stem}_prob.png")


class LabelFolder:
    """``<name>.png`` with a class for each pixel and ``<name>_prob.png`` with its probability.

    Args:
        folder: made if it is missing.
        values: class -> value in the files.
        teacher: plain containers, all that labels depend on besides the image, and where the images are.
        notes: more plain containers for ``autolabel.json``.

    Raises:
        UserError: if the folder holds another teacher's labels, or pictures of other origin; if it cannot be written.
    """

    def __init__(self, folder: Path, values: Sequence[int], *, teacher: dict[str, Any], notes: dict[str, Any]) -> None:
        self.folder = folder
        self._stored, self._classes = np.zeros(256, np.uint8), np.full(256, _NONE, np.uint8)
        self._stored[: len(values)] = values
        self._classes[list(values)] = range(len(values))
        there = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES or path.name in _TEXTS)
        self._record = OutputRecord(folder, MANIFEST, teacher, command="src.autolabel", foreign=there, notes=notes)

    def check(self, names: Mapping[Path, Path]) -> None:
        """Refuses images whose labels would overwrite those of other images that are still there.

        Args:
            names: image -> name of its label.

        Raises:
            UserError: naming both images.
        """
        for image, name in names.items():
            other = self._record.other_source(name.as_posix(), image)
            if other is not None and image.with_name(other).exists():
                raise UserError(
                    f"{printable(image)}: its label would overwrite that of {printable(other)}; rename one of them, or"
                    " label the folder that holds both"
                )

    def finished(self, image: Path, name: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """(H,W) uint8 classes and confidence, if ``image`` as it is now is labelled: readable, of its size."""
        files = [self.folder / name, self.folder / confidence_name(name)]
        if not self._record.is_made_from(name.as_posix(), image, files):
            return None
        try:
            stored, confidence = map(read_label, files)
            size = image_size(image)
        except UserError:
            return None
        label = self._classes[stored]
        return (label, confidence) if label.shape == confidence.shape == size and label.max() < _NONE else None

    def write_pair(self, name: Path, label: np.ndarray, confidence: np.ndarray) -> None:
        """(H,W) uint8 classes and confidence; each file appears in one move, the confidence last."""
        for file, picture in ((name, self._stored[label]), (confidence_name(name), confidence)):
            with writing(self.folder / file):
                save_png(self.folder / file, picture)
        self._record.add(name.as_posix())

    def write_text(self, name: str, text: str) -> None:
        """A text file beside the labels."""
        with writing(self.folder / name):
            write_bytes(self.folder / name, text.encode(errors="surrogateescape"))
