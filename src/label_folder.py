"""Machine-made labels on disk: written whole, found again, and never mixed with those of another teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from src.data.auto_labels import MANIFEST
from src.data.dataset import image_size, read_label
from src.environment import environment
from src.errors import UserError
from src.files import write_bytes
from src.image_files import SUFFIXES
from src.viz import save_png

__all__ = ["LabelFolder", "confidence_name"]

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
        self._check_origin(teacher)
        content = {"teacher": teacher, **notes, "environment": environment()}
        self.write_text(MANIFEST, json.dumps(content, indent=1) + "\n")

    def _check_origin(self, teacher: dict[str, Any]) -> None:
        if (self.folder / MANIFEST).is_file():
            before = json.loads((self.folder / MANIFEST).read_text())["teacher"]
            changed = [key for key in teacher if before.get(key) != teacher[key]]
            if changed:
                raise UserError(
                    f"out={self.folder}: its labels were made with another {changed[0]} ({MANIFEST} there), and two"
                    " kinds must not mix; choose another folder, or remove this one"
                )
        elif any(path.suffix.lower() in SUFFIXES for path in self.folder.rglob("*")):
            raise UserError(
                f"out={self.folder}: holds pictures that src.autolabel did not write; choose a folder of its own, lest"
                " they be overwritten"
            )

    def finished(self, image: Path, name: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """(H,W) uint8 classes and confidence, if ``image`` is labelled already: both readable and of its size."""
        files = [self.folder / name, self.folder / confidence_name(name)]
        if not all(file.is_file() for file in files):
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
        with _explained(self.folder / name):
            save_png(self.folder / name, self._stored[label])
            save_png(self.folder / confidence_name(name), confidence)

    def write_text(self, name: str, text: str) -> None:
        """A text file beside the labels."""
        with _explained(self.folder / name):
            write_bytes(self.folder / name, text.encode())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); labels so far are whole and stay: mend that and give the"
            " same command again"
        ) from error
