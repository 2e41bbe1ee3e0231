"""Configs that a command adds to the choices of a group before Hydra composes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.config_store import ConfigStore

__all__ = ["offer", "offer_inference"]


def offer(group: str | None, name: str, node: Any, *, package: str | None = None) -> None:
    """Makes ``node`` an option of a config group (or a root config) for this process."""
    ConfigStore.instance().store(group=group, name=name, node=node, package=package)


def offer_inference(saved: Mapping[str, Any]) -> None:
    """Makes the inference of a checkpoint the option ``checkpoint``, with window and refinement that can be swapped."""
    parts = ("window", "refine")
    for part in parts:
        offer(f"inference/{part}", "checkpoint", {part: saved.get(part)}, package="inference")
    rest = {name: value for name, value in saved.items() if name not in parts}
    offer("inference", "checkpoint", {"defaults": [*({part: "checkpoint"} for part in parts), "_self_"], **rest})
