"""What an audit counts: sizes, label modes, values and classes, and which files show what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..label_space import IGNORE_INDEX, LabelSpace
from .image_facts import Files, ImageTally
from .sample_stats import SampleStats, Value

__all__ = ["Counts"]

_KINDS = 64  # failures and unknown values that are distinguished


class Counts:
    """Counts over the samples of one source that were looked at.

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

    def __init__(
        self, label_space: LabelSpace, total: int, unmatched: Sequence[Path] = (), left_out: Sequence[str] = ()
    ) -> None:
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

    def add(self, seen: SampleStats) -> None:
        """Count one sample."""
        self.looked_at += 1
        if seen.failure is not None:
            kind = seen.failure if seen.failure in self.failures or len(self.failures) < _KINDS else "cannot be read"
            self.failures.setdefault(kind, Files()).add(seen.where)
            return
        if seen.size is not None:
            self.sizes[seen.size] += 1
        if seen.levels is not None:
            self.images.add(seen.image, seen.levels, seen.facts)
        if seen.blank:
            self.blank.add(seen.where)
        if seen.values is None:
            return
        self.labelled += 1
        self.example = self.example or seen.where
        if seen.mode is not None:
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

    def percent(self, pixels: int) -> str:
        """Share of all label pixels, known or not."""
        total = int(self.pixels.sum()) + sum(files.pixels for files in self.unknown.values())
        return f"{100 * int(pixels) / max(total, 1):#.3g} %"


def _known_values(label_space: LabelSpace) -> dict[Value, int]:
    strict = replace(label_space, ignore_unknown=False)
    colors = label_space.colors if label_space.file_colors is None else label_space.file_colors
    candidates: list[Value] = list(range(256))
    if label_space.encoding == "color":
        candidates = [(0, 0, 0), *((r, g, b) for r, g, b in colors)]
    known: dict[Value, int] = {}
    for value in candidates:
        with suppress(UserError):
            known[value] = int(strict.encode(np.array([[value]], np.uint8), "").item())
    return known
