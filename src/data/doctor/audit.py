"""What is in a data set: sizes, label modes, values and classes, and every trap with the line that fixes it.

The traps are those that users of segmentation trainers report most: masks of 0 and 255 whose foreground is silently
ignored, labels that count from one, values outside the classes, three-channel, rotated, truncated or empty files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from ...errors import UserError
from ...files.images import read_ahead
from ...runtime.bars import tqdm
from ..cache import fingerprint, load_json, store_json
from ..label_space import IGNORE_INDEX, LabelSpace
from ..source import FileSource, Source
from ..workers import reading_threads
from . import findings
from .counts import Counts
from .findings import spell
from .sample_stats import Value, sample_stats

__all__ = ["Audit", "AuditSummary", "audit", "known_audit", "listing", "remembered_audit", "summary"]

_KIND = "audit-2"  # of remembered audits; another number when audits find more
_AHEAD = 256  # samples in flight, so that memory is bounded however many there are


class Audit(Counts):
    """Counts, and what they show: ``problems`` stop training or spoil it, ``notes`` are worth knowing."""

    @property
    def problems(self) -> list[str]:
        """What must be fixed: a sentence each, with the file, the value and the remedy."""
        return findings.problems(self)

    @property
    def notes(self) -> list[str]:
        """What is odd but may be meant."""
        return findings.notes(self)

    def report(self) -> str:
        """The whole finding as text: counts, a table of classes, problems and notes."""
        lines = [
            f"samples     {self.total}, looked at {self.looked_at}, with a counted label {self.labelled}",
            f"image size  {_tally({f'{width}x{height}': n for (width, height), n in self.sizes.items()})}",
            f"image kind  {_tally(self.images.kinds)}",
            f"levels      {self.images.summary()}",
            f"label mode  {_tally(self.modes)}",
        ]
        if self.labelled:
            lines += ["", *_table(self)]
        return "\n".join([*lines, *listing(self.problems, self.notes)])


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
        stats = read_ahead(pool, partial(sample_stats, source), indices.tolist(), _AHEAD)
        for _, seen in tqdm(stats, total=len(indices), unit="image", disable=not progress):
            if isinstance(seen, UserError):  # of a source that cannot even name its sample
                raise seen
            found.add(seen)
    return found


class AuditSummary(NamedTuple):
    """What is kept of an audit.

    Attributes:
        total: samples in the source.
        looked_at: samples that were read; all of them where the audit was full.
        labelled: samples with a label.
        sizes: width, height, and how many images have them.
        label_images: for each class, the labels in which it occurs.
        problems: what must be fixed, a sentence each.
        notes: what is odd but may be meant.
        report: the whole as text.
        pixels: label pixels of each class.
    """

    total: int
    looked_at: int
    labelled: int
    sizes: list[Annotated[list[int], Field(min_length=3, max_length=3)]]
    label_images: list[int]
    problems: list[str]
    notes: list[str]
    report: str
    pixels: list[int] = []  # noqa: RUF012, never changed


def remembered_audit(
    source: Source, *, limit: int | None = None, fresh: bool = False, progress: bool = False
) -> AuditSummary:
    """Audit a source, or recall what a full audit of the very same files and classes found.

    Args:
        source: what to read.
        limit: read that many samples instead of all; nothing is recalled then, and what they show is not kept.
        fresh: read everything again.
        progress: show a progress bar.
    """
    if limit is not None:
        return summary(audit(source, limit, progress))
    key = fingerprint(source)  # before reading: a file that changes meanwhile must be read again
    known = None if fresh else load_json(_KIND, key, AuditSummary)
    if known is not None:
        return known
    found = summary(audit(source, None, progress))
    store_json(_KIND, key, found._asdict())
    return found


def known_audit(source: Source) -> AuditSummary | None:
    """What a full audit of the very same files and classes found; ``None`` if there was none."""
    return load_json(_KIND, fingerprint(source), AuditSummary)


def summary(found: Audit) -> AuditSummary:
    """What is kept of ``found``."""
    return AuditSummary(
        total=found.total,
        looked_at=found.looked_at,
        labelled=found.labelled,
        sizes=[[width, height, images] for (width, height), images in found.sizes.items()],
        label_images=found.label_images[: found.label_space.num_classes].tolist(),
        problems=found.problems,
        notes=found.notes,
        report=found.report(),
        pixels=found.pixels[: found.label_space.num_classes].tolist(),
    )


def listing(problems: Sequence[str], notes: Sequence[str], *, of: str = "") -> list[str]:
    """Lines of both, each under its count; ``of`` names what they are about where a heading is far."""
    lines = []
    for title, sentences in ((f"problems{of}", problems), (f"notes{of}", notes)):
        lines += ["", f"{title}: {len(sentences) or 'none'}", *(f"- {sentence}" for sentence in sentences)]
    return lines


def _table(found: Counts) -> list[str]:
    stored: dict[int, list[Value]] = {}
    for value, train_id in sorted(found.stored.items()):
        stored.setdefault(train_id, []).append(value)
    rows = [("id", "class", "pixels", "labels", "stored as")]
    for train_id, name in [*enumerate(found.label_space.names), (IGNORE_INDEX, "(ignored)")]:
        share, count = found.percent(found.pixels[train_id]), str(found.label_images[train_id])
        rows.append((str(train_id), name, share, count, ", ".join(map(spell, stored.get(train_id, [])))))
    for value, files in sorted(found.unknown.items(), key=lambda item: -item[1].pixels)[:8]:
        rows.append(("-", "(in no class)", found.percent(files.pixels), str(files.count), spell(value)))
    width = max(len(row[1]) for row in rows)
    return [f"{row[0]:>4}  {row[1]:<{width}}  {row[2]:>9}  {row[3]:>6}  {row[4]}".rstrip() for row in rows]


def _tally(counts: Mapping[str, int]) -> str:
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in common[8:])
    return ", ".join(f"{name}: {n}" for name, n in common[:8]) + (f", others: {rest}" if rest else "") or "none"
