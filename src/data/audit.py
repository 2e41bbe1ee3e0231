"""What is in a data set: sizes, label modes, values and classes, and every trap with the line that mends it.

The traps are those that users of segmentation trainers report most: masks of 0 and 255 whose foreground is silently
ignored, labels that count from one, values outside the classes, three-channel, rotated, truncated or empty files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from src.data import findings
from src.data.dataset import FileSource, Source
from src.data.findings import Files, Value
from src.data.label_space import IGNORE_INDEX, LabelSpace
from src.errors import UserError

__all__ = ["Audit", "audit", "preflight"]

_CHUNK = 256  # samples in flight; with _KINDS it bounds memory, however many there are
_KINDS = 64  # failures and unknown values that are told apart


class _Look(NamedTuple):
    """What one sample showed: size, label mode and pixels per stored value, or why it cannot be read."""

    where: str
    size: tuple[int, int] | None = None
    mode: str | None = None
    values: dict[Value, int] | None = None
    failure: str | None = None


class Audit:
    """Counts over the samples looked at; ``problems`` stop training or spoil it, ``notes`` are worth knowing.

    Attributes:
        total: samples in the source.
        looked_at: samples that were read, or failed to be.
        labelled: samples whose label was counted; ``example`` is the first.
        sizes: (width, height) of an image -> how many.
        modes: mode of a label file (``L``, ``P``, ``RGB``) -> how many.
        pixels: (256,) int64, label pixels per train id, 255 = ignored; those of unknown values are counted apart.
        label_images: (256,) int64, labels in which a train id occurs.
        stored: stored value or colour -> train id, for every known one that occurs.
        unknown: stored value or colour that no class claims -> where.
        failures: why files cannot be read -> which.
        void: labels that hold nothing but ignored pixels.
        unmatched: label files without an image.
    """

    def __init__(self, label_space: LabelSpace, total: int, unmatched: tuple = ()) -> None:
        self.label_space, self.total, self.unmatched = label_space, total, unmatched
        self.looked_at = self.labelled = 0
        self.example = ""
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.modes: Counter[str] = Counter()
        self.pixels, self.label_images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        self.stored: dict[Value, int] = {}
        self.unknown: dict[Value | None, Files] = {}
        self.failures: dict[str, Files] = {}
        self.void = Files()
        self._known = _known_values(label_space)

    def add(self, look: _Look) -> None:
        """Count one sample."""
        self.looked_at += 1
        if look.failure is not None:
            kind = look.failure if look.failure in self.failures or len(self.failures) < _KINDS else "cannot be read"
            self.failures.setdefault(kind, Files()).add(look.where)
            return
        self.sizes[look.size] += 1
        if look.values is None:
            return
        self.labelled += 1
        self.example = self.example or look.where
        self.modes[look.mode] += 1
        seen = set()
        for value, count in look.values.items():
            train_id = self._known.get(value)
            if train_id is None:
                key = value if value in self.unknown or len(self.unknown) < _KINDS else None
                self.unknown.setdefault(key, Files()).add(look.where, count)
            else:
                self.stored[value] = train_id
                self.pixels[train_id] += count
                seen.add(train_id)
        self.label_images[list(seen)] += 1
        if seen == {IGNORE_INDEX}:
            self.void.add(look.where)

    @property
    def nothing_to_learn(self) -> bool:
        """Whether no more than one class occurs beside ignored pixels that nobody asked to ignore."""
        asked = self.label_space.file_values is not None or self.label_space.encoding == "color"
        classes = np.count_nonzero(self.pixels[:IGNORE_INDEX])
        return classes == 0 < self.labelled or (classes == 1 and self.stored.get(IGNORE_INDEX) == 255 and not asked)

    @property
    def problems(self) -> list[str]:
        """What must be mended: a sentence each, with the file, the value and the remedy."""
        return findings.problems(self)

    @property
    def notes(self) -> list[str]:
        """What is odd but may be meant."""
        return findings.notes(self)

    def report(self) -> str:
        """The whole finding as text: counts, a table of classes, problems and notes."""
        return findings.report(self)


def audit(source: Source, limit: int | None = None, progress: bool = False) -> Audit:
    """Read a data set and count what is in it; a broken file is noted, not raised.

    Args:
        source: usually a ``FileSource``, whose files are looked into as stored; any other is read as train ids.
        limit: how many samples to look at, evenly spread; ``None`` is all.
        progress: show a progress bar.
    """
    count = len(source)
    indices = np.unique(np.linspace(0, count - 1, count if limit is None else min(limit, count)).round().astype(int))
    space = source.label_space
    if isinstance(source, FileSource):
        found = Audit(space, count, source.unmatched)
    else:
        found = Audit(LabelSpace(space.names, space.colors), count)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for look in tqdm(_looks(pool, source, indices), total=len(indices), unit="image", disable=not progress):
            found.add(look)
    return found


def preflight(source: Source, limit: int = 16) -> None:
    """Raise the first problem that an evenly spread sample shows; meant to run before every fit.

    A sample that shows one class only is no proof, so then every label is looked at before judging.

    Raises:
        UserError: the first of ``Audit.problems``, or that there is no label at all.
    """
    found = audit(source, limit)
    if found.nothing_to_learn and found.looked_at < found.total:
        found = audit(source)
    if found.problems:
        raise UserError(found.problems[0])
    if not found.labelled:
        raise UserError(
            f"none of {found.looked_at} samples looked at has a label; name a labelled split in data.splits"
        )


def _known_values(label_space: LabelSpace) -> dict[Value, int]:
    strict = replace(label_space, ignore_unknown=False)
    colors = label_space.colors if label_space.file_colors is None else label_space.file_colors
    known = {}
    for value in range(256) if label_space.encoding == "index" else {(0, 0, 0), *colors}:
        with suppress(UserError):
            known[value] = int(strict.encode(np.array([[value]], np.uint8), "").item())
    return known


def _looks(pool: ThreadPoolExecutor, source: Source, indices: np.ndarray) -> Iterator[_Look]:
    for start in range(0, len(indices), _CHUNK):
        yield from pool.map(lambda index: _look(source, int(index)), indices[start : start + _CHUNK])


def _look(source: Source, index: int) -> _Look:
    if not isinstance(source, FileSource):
        try:
            image, label = source.read(index)
        except UserError as error:
            return _Look(source.name(index), failure=str(error))
        return _Look(source.name(index), image.shape[1::-1], "train ids", None if label is None else _histogram(label))
    pair = source.pairs[index]
    where = str(pair.image if pair.label is None else pair.label)
    try:
        image, stored = source.read_stored(index)
        _check_whole(str(pair.image))
    except UserError as error:
        broken = str(pair.image) if str(error).startswith(str(pair.image)) else where
        # Without paths, equal failures count as one.
        return _Look(broken, failure=str(error).removeprefix(f"{broken}: ").replace(f" {pair.image}", ""))
    if stored is None:
        return _Look(where, image.shape[1::-1])
    with Image.open(pair.label) as file:
        return _Look(where, image.shape[1::-1], file.mode, _histogram(stored))


def _check_whole(path: str) -> None:
    """OpenCV fills the missing part of a JPEG with grey and says nothing, so Pillow is asked too."""
    if not path.lower().endswith((".jpg", ".jpeg")):
        return
    try:
        with Image.open(path) as file:
            file.draft("RGB", (1, 1))  # the coarsest, hence quickest, decoding still reads every byte
            file.load()
    except OSError as error:
        if "truncated" in str(error):
            raise UserError(f"{path}: file is truncated; restore or remove it") from error


def _histogram(stored: np.ndarray) -> dict[Value, int]:
    if stored.ndim == 2:
        counts = np.bincount(stored.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in counts.nonzero()[0]}
    r, g, b = (stored[..., i].astype(np.int32) for i in range(3))
    values, counts = np.unique((r << 16) | (g << 8) | b, return_counts=True)
    return {(v >> 16, v >> 8 & 255, v & 255): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}
