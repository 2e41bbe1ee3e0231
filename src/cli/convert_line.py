"""The command line of ``src.convert``: what it gives replaces what is known of the foreign project."""

from __future__ import annotations

from src.cli.offers import offer
from src.cli.overrides import name_of

__all__ = ["prepare"]

_STATISTICS = ("data.mean", "data.std", "data.channel_order")
_PROTOCOL = ("inference", "model.scales", "model/scales")


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Statistics and protocol that the command line gives replace those of the project."""
    offer("data", "auto", {"name": "auto", "num_classes": None})
    offer("model", "unset", {"name": "unset"})
    given = [
        f"{option}=given"
        for option, names in (("statistics", _STATISTICS), ("protocol", _PROTOCOL))
        if any(name_of(item).startswith(names) for item in overrides)
    ]
    return "convert", [*given, *overrides]
