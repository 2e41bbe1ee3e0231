"""Pseudo-labels on disk: written whole, found again, and never mixed with those of another teacher."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..data.decoding import image_size, read_image, read_label
from ..data.folder.pseudo_labels import MANIFEST, KeptLabels
from ..errors import UserError, printable
from ..files.atomic import fitting_name, write_bytes
from ..files.images import AHEAD, SUFFIXES, read_ahead
from ..files.output_paths import check_inside
from ..reports.pictures import save_png
from ..runtime.bars import tqdm
from .output_record import OutputRecord, writing
from .outputs import Label

__all__ = ["LabelFolder", "check_places", "label_images"]

_TEXTS = ("classes.txt", "survival.csv")  # which the command writes beside the labels
_NONE = 255  # stands for values in the files that are no class


def _confidence_name(name: Path) -> Path:
    return name.with_name(f"{name.stem}_prob.png")


class LabelFolder:
    """``<name>.png`` with a class for each pixel and ``<name>_prob.png`` with its probability.

    Args:
        folder: made if it is missing.
        values: class -> value in the files.
        teacher: plain containers, all that labels depend on besides the image, and where the images are.
        notes: more plain containers for ``autolabel.json``.

    Raises:
        UserError: if the folder holds labels of another teacher or made by hand, or cannot be written.
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
        files = [self.folder / name, self.folder / _confidence_name(name)]
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
        for file, picture in ((name, self._stored[label]), (_confidence_name(name), confidence)):
            with writing(self.folder / file):
                save_png(self.folder / file, picture)
        self._record.add(name.as_posix())

    def write_text(self, name: str, text: str) -> None:
        """A text file beside the labels."""
        with writing(self.folder / name):
            write_bytes(self.folder / name, text.encode(errors="surrogateescape"))


def label_images(
    label: Label, names: Mapping[Path, Path], folder: LabelFolder, survival: KeptLabels
) -> tuple[int, list[str]]:
    """Labels every image that ``folder`` has no label of yet.

    Args:
        label: the net, with confidence.
        names: image -> name of its label.
        folder: where labels go.
        survival: counts the pixels of all labels, earlier ones included.

    Returns:
        How many images were labelled, and a line for each that could not be.
    """

    def read(path: Path) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        return folder.finished(path, names[path]) or read_image(path)

    broken: list[str] = []
    pending: deque[Future[None]] = deque()
    labelled = 0
    with ThreadPoolExecutor(2) as reader, ThreadPoolExecutor(2) as writer:
        for path, found in tqdm(read_ahead(reader, read, list(names)), total=len(names), unit="image", disable=None):
            if isinstance(found, tuple):
                survival.add(*found)
                continue
            if isinstance(found, UserError):
                broken.append(str(found))
                continue
            try:
                classes, confidences = label(found[None])
            except UserError as error:
                broken.append(f"{path}: {error}")
                continue
            assert confidences is not None
            pending.append(writer.submit(folder.write_pair, names[path], classes[0], confidences[0]))
            survival.add(classes[0], confidences[0])
            labelled += 1
            if len(pending) > AHEAD:
                pending.popleft().result()
        for job in pending:
            job.result()
    return labelled, broken


def check_places(base: Path, out: Path, names: Iterable[Path]) -> None:
    """Refuses labels that would lie among the images, overwrite one another, have too long a name, or leave ``out``.

    Args:
        base: folder of the images.
        out: folder of the labels.
        names: of the labels.

    Raises:
        UserError: naming the folder or image.
    """
    source, target = base.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise UserError(
            f"out={out}: labels would lie among the images of source={base}; choose a folder apart from it, such as"
            " source=pool/images out=pool/masks"
        )
    names = set(names)
    for name in sorted(names):
        confidence = _confidence_name(name)
        if confidence in names:
            raise UserError(
                f"source={base}: the label of {confidence.stem} would overwrite the confidence of {name.stem}; rename"
                " one of the images"
            )
        if confidence.name != fitting_name("", confidence.name):
            raise UserError(
                f"source={base}: {name.name} is too long a name for its label and confidence, whose names are at most"
                " 255 bytes; shorten it"
            )
    check_inside(out, {out / name.parent for name in names})
