"""What is in a data set: sizes, label modes, values and classes, and every trap with the line that mends it.

The traps are those that users of segmentation trainers report most: masks of 0 and 255 whose foreground is silently
ignored, labels that count from one, values outside the classes, three-channel, rotated, truncated or empty files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from src.data.dataset import FileSource, Source
from src.data.doctor import audit_table, findings
from src.data.doctor.findings import Value
from src.data.doctor.image_facts import ImageTally
from src.data.doctor.sample_stats import Look, look
from src.data.files_seen import Files
from src.data.label_space import IGNORE_INDEX, LabelSpace
from src.data.workers import reading_threads
from src.errors import UserError

__all__ = ["Audit", "audit"]

_CHUNK = 256  # samples in flight; with _KINDS it bounds memory, however many there are
_KINDS = 64  # failures and unknown values that are told apart


class Audit:
    """Counts over the samples looked at; ``problems`` stop training or spoil it, ``notes`` are worth knowing.

    Attributes:
        total: samples in the source.
        looked_at: samples that were read, or failed to be.
        labelled: samples whose label was counted; ``example`` is the first.
        sizes: (width, height) of an image -> how many.
        images: kinds of image files and the range of their levels.
        modes: mode of a label file (``L``, ``P``, ``RGB``), ``JPEG`` behind it for those -> how many.
        pixels: (256,) int64, label pixels per train id, 255 = ignored; those of unknown values are counted apart.
        label_images: (256,) int64, labels in which a train id occurs.
        stored: stored value or colour -> train id, for every known one that occurs.
        unknown: stored value or colour that no class claims -> where.
        failures: why files cannot be read -> which.
        void: labels that hold nothing but ignored pixels.
        blank: labels, or images without one, whose image holds a single tone.
        unmatched: label files without an image.
        left_out: images without a label that are not read.
    """

    def __init__(self, label_space: LabelSpace, total: int, unmatched: tuple = (), left_out: tuple = ()) -> None:
        self.label_space, self.total = label_space, total
        self.unmatched, self.left_out = unmatched, left_out
        self.looked_at = self.labelled = 0
        self.example = ""
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.images = ImageTally()
        self.modes: Counter[str] = Counter()
        self.pixels, self.label_images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        self.stored: dict[Value, int] = {}
        self.unknown: dict[Value | None, Files] = {}
        self.failures: dict[str, Files] = {}
        self.void, self.blank = Files(), Files()
        self._known = _known_values(label_space)

    def add(self, seen: Look) -> None:
        """Count one sample."""
        self.looked_at += 1
        if seen.failure is not None:
            kind = seen.failure if seen.failure in self.failures or len(self.failures) < _KINDS else "cannot be read"
            self.failures.setdefault(kind, Files()).add(seen.where)
            return
        self.sizes[seen.size] += 1
        if seen.levels is not None:
            self.images.add(seen.image, seen.levels, seen.facts)
        if seen.blank:
            self.blank.add(seen.where)
        if seen.values is None:
            return
        self.labelled += 1
        self.example = self.example or seen.where
        self.modes[seen.mode] += 1
        counts = np.zeros(256, np.int64)
        strange: Counter[Value | None] = Counter()  # pixels of values that no class claims
        for value, count in seen.values.items():
            train_id = self._known.get(value)
            if train_id is None:
                room = value in self.unknown or len({*self.unknown, *strange}) < _KINDS
                strange[value if room else None] += count
            else:
                self.stored[value] = train_id
                counts[train_id] += count
        for key, count in strange.items():
            self.unknown.setdefault(key, Files()).add(seen.where, count)
        counts = counts if seen.counts is None else seen.counts
        self.pixels += counts
        self.label_images += counts > 0
        if counts[IGNORE_INDEX] and not counts[:IGNORE_INDEX].any():
            self.void.add(seen.where)

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
        return audit_table.report(self)


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
        found = Audit(space, count, source.unmatched, source.left_out)
    else:
        found = Audit(LabelSpace(space.names, space.colors), count)
    with ThreadPoolExecutor(reading_threads()) as pool:
        for seen in tqdm(_looks(pool, source, indices), total=len(indices), unit="image", disable=not progress):
            found.add(seen)
    return found


def _known_values(label_space: LabelSpace) -> dict[Value, int]:
    strict = replace(label_space, ignore_unknown=False)
    colors = label_space.colors if label_space.file_colors is None else label_space.file_colors
    known = {}
    for value in range(256) if label_space.encoding == "index" else {(0, 0, 0), *colors}:
        with suppress(UserError):
            known[value] = int(strict.encode(np.array([[value]], np.uint8), "").item())
    return known


def _looks(pool: ThreadPoolExecutor, source: Source, indices: np.ndarray) -> Iterator[Look]:
    for start in range(0, len(indices), _CHUNK):
        yield from pool.map(lambda index: look(source, int(index)), indices[start : start + _CHUNK])
