"""Full audits that are remembered until a file changes."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from src.data.cache import fingerprint, load_json, store_json
from src.data.dataset import Source
from src.data.doctor.audit import Audit, audit

__all__ = ["Checkup", "checkup", "known_checkup", "summary"]

_KIND = "audit-2"  # another number when audits find more


class Checkup(NamedTuple):
    """What is kept of an audit.

    Attributes:
        total: samples in the source.
        looked_at: samples that were read; all of them where the audit was full.
        labelled: samples with a label.
        sizes: width, height, and how many images have them.
        label_images: for each class, the labels in which it occurs.
        problems: what must be mended, a sentence each.
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


def checkup(source: Source, *, limit: int | None = None, fresh: bool = False, progress: bool = False) -> Checkup:
    """Audit a source, or recall what a full audit of the very same files and classes found.

    Args:
        source: what to read.
        limit: read that many samples instead of all; nothing is recalled then, and what they show is not kept.
        fresh: read everything anew.
        progress: show a progress bar.
    """
    if limit is not None:
        return summary(audit(source, limit, progress))
    key = fingerprint(source)  # before reading: a file that changes meanwhile must be read again
    known = None if fresh else _recall(key)
    if known is not None:
        return known
    found = summary(audit(source, None, progress))
    store_json(_KIND, key, found._asdict())
    return found


def known_checkup(source: Source) -> Checkup | None:
    """What a full audit of the very same files and classes found; ``None`` if there was none."""
    return _recall(fingerprint(source))


def summary(found: Audit) -> Checkup:
    """What is kept of ``found``."""
    return Checkup(
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


def _recall(key: str | None) -> Checkup | None:
    return load_json(_KIND, key, Checkup)
