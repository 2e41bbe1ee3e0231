"""What the complete download of a published set holds, as ``release`` in its YAML says, against what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["archives", "count_finding"]


def count_finding(release: Mapping[str, Any] | None, split: str, count: int) -> str | None:
    """A sentence if ``count`` images are not what a release holds; ``None`` where it is silent about the split.

    ``release["images"][split]`` is a number, or several where conversions in use differ.
    """
    official = ((release or {}).get("images") or {}).get(split)
    counts = [official] if isinstance(official, int) else list(official or [])
    if not counts or count in counts:
        return None
    published = " or ".join(map(str, counts))
    if count < max(counts):
        return (
            f"{split} holds {count} of {published} images; unless a part of them is meant, unpack its archives"
            " completely into data.root"
        )
    return f"{split} holds {count} images where the published set has {published}; remove what does not belong to it"


def archives(release: Mapping[str, Any] | None) -> list[str]:
    """A line for each archive: its name, where it is had and where it goes."""
    return [f"{name}: {where}" for name, where in ((release or {}).get("archives") or {}).items()]
