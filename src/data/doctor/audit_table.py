"""An audit as text: counts, a table of classes, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from src.data.doctor.findings import Value, percent, spell
from src.data.label_space import IGNORE_INDEX

if TYPE_CHECKING:
    from src.data.doctor.audit import Audit

__all__ = ["listing", "report"]


def report(found: Audit) -> str:
    """Counts, a table of classes, problems and notes."""
    lines = [
        f"samples     {found.total}, looked at {found.looked_at}, with a counted label {found.labelled}",
        f"image size  {_tally({f'{width}x{height}': n for (width, height), n in found.sizes.items()})}",
        f"image kind  {_tally(found.images.kinds)}",
        f"levels      {found.images.summary()}",
        f"label mode  {_tally(found.modes)}",
    ]
    if found.labelled:
        lines += ["", *_table(found)]
    return "\n".join([*lines, *listing(found.problems, found.notes)])


def listing(problems: Sequence[str], notes: Sequence[str], *, of: str = "") -> list[str]:
    """Lines of both, each under its count; ``of`` names what they are about where a heading is far."""
    lines = []
    for title, sentences in ((f"problems{of}", problems), (f"notes{of}", notes)):
        lines += ["", f"{title}: {len(sentences) or 'none'}", *(f"- {sentence}" for sentence in sentences)]
    return lines


def _table(found: Audit) -> list[str]:
    stored: dict[int, list[Value]] = {}
    for value, train_id in sorted(found.stored.items()):
        stored.setdefault(train_id, []).append(value)
    rows = [("id", "class", "pixels", "labels", "stored as")]
    for train_id, name in [*enumerate(found.label_space.names), (IGNORE_INDEX, "(ignored)")]:
        share, count = percent(found.pixels[train_id], found), str(found.label_images[train_id])
        rows.append((str(train_id), name, share, count, ", ".join(map(spell, stored.get(train_id, [])))))
    for value, files in sorted(found.unknown.items(), key=lambda item: -item[1].pixels)[:8]:
        rows.append(("-", "(in no class)", percent(files.pixels, found), str(files.count), spell(value)))
    width = max(len(row[1]) for row in rows)
    return [f"{row[0]:>4}  {row[1]:<{width}}  {row[2]:>9}  {row[3]:>6}  {row[4]}".rstrip() for row in rows]


def _tally(counts: Mapping[str, int]) -> str:
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in common[8:])
    return ", ".join(f"{name}: {n}" for name, n in common[:8]) + (f", others: {rest}" if rest else "") or "none"
