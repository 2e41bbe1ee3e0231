"""One sample as the audit sees it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import UserError, out_of_memory
from ..source import FileSource, Source
from .image_facts import ImageFacts, image_facts

__all__ = ["SampleStats", "Value", "sample_stats"]

Value = int | tuple[int, int, int]
"""A stored label value or RGB colour."""

_NOISE = 8  # levels, of 255, by which the compression of a black image may differ


class SampleStats(NamedTuple):
    """What one sample showed: size, label mode and pixels per stored value, or why it cannot be read.

    ``counts`` is (256,) pixels per train id where a source amends what its files hold, such as by confidence. Of image
    files ``image`` is the path, ``levels`` lowest, highest and mean level of 255, and ``facts`` what the header says.
    """

    where: str
    size: tuple[int, int] | None = None
    mode: str | None = None
    values: dict[Value, int] | None = None
    counts: np.ndarray | None = None
    image: str = ""
    levels: tuple[int, int, float] | None = None
    facts: ImageFacts | None = None
    failure: str | None = None

    @property
    def blank(self) -> bool:
        """Whether the image is of one tone."""
        return self.levels is not None and self.levels[1] - self.levels[0] <= _NOISE


def sample_stats(source: Source, index: int) -> SampleStats:
    """What sample ``index`` shows; of files, as they are stored. What cannot be read is told, not raised."""
    if not isinstance(source, FileSource):
        try:
            image, label = source.read(index)
        except UserError as error:
            return SampleStats(source.name(index), failure=str(error))
        return SampleStats(
            source.name(index), image.shape[1::-1], "train ids", None if label is None else _histogram(label)
        )
    pair = source.pairs[index]
    where = str(pair.image if pair.label is None else pair.label)
    try:
        image, stored = source.read_stored(index)
        _check_whole(str(pair.image))
        counts = _amended(source, index)
    except UserError as error:
        broken = str(pair.image) if str(error).startswith(str(pair.image)) else where
        # Without paths, equal failures count as one.
        return SampleStats(broken, failure=str(error).removeprefix(f"{broken}: ").replace(f" {pair.image}", ""))
    seen = SampleStats(
        where,
        image.shape[1::-1],
        image=str(pair.image),
        levels=(int(image.min()), int(image.max()), float(image.mean())),
        facts=image_facts(pair.image),
    )
    if stored is None or pair.label is None:
        return seen
    with Image.open(pair.label) as file:
        mode = f"{file.mode} JPEG" if file.format == "JPEG" else file.mode
    return seen._replace(mode=mode, values=_histogram(stored), counts=counts)


def _amended(source: FileSource, index: int) -> np.ndarray | None:
    """(256,) pixels per train id, or ``None`` where the label file alone says what is read."""
    if source.min_confidence is None and type(source) is FileSource:  # others may amend it
        return None
    label = source.read(index)[1]
    return None if label is None else np.bincount(label.ravel(), minlength=256)


def _check_whole(path: str) -> None:
    """OpenCV fills the missing part of a JPEG with grey and says nothing, so Pillow is asked too."""
    if not path.lower().endswith((".jpg", ".jpeg")):
        return
    try:
        with Image.open(path) as file:
            file.draft("RGB", (1, 1))  # the coarsest, hence quickest, decoding still reads every byte
            file.load()
    except Exception as error:  # whatever broken bytes lead a parser to; OpenCV could read the pixels
        if out_of_memory(error):
            raise
        if "truncated" in str(error):
            raise UserError(f"{path}: file is truncated; restore or remove it") from error


def _histogram(stored: np.ndarray) -> dict[Value, int]:
    if stored.ndim == 2:
        counts = np.bincount(stored.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in counts.nonzero()[0]}
    r, g, b = (stored[..., i].astype(np.int32) for i in range(3))
    values, counts = np.unique((r << 16) | (g << 8) | b, return_counts=True)
    return {(v >> 16, v >> 8 & 255, v & 255): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}
