"""Checks what a config builds, every ``_target_`` in it, against the signature of what is called."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

from src.schema.faults import Fault, call_faults
from src.schema.words import written

__all__ = ["PACKAGES", "target_faults"]

PACKAGES = ("src.", "torch.", "pytorch_lightning.", "albumentations.", "timm.")
"""How a ``_target_`` may begin."""
_CHECKED = ("src.", "torch.optim.", "pytorch_lightning.")  # those of others check their arguments themselves


def target_faults(node: Any, path: tuple[str, ...] = ()) -> Iterator[Fault]:
    """What is wrong with the arguments in ``node`` and below, a tree of plain containers that lies at ``path``."""
    if isinstance(node, list | tuple):
        for each in node:
            yield from target_faults(each, path)
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        yield from _own_faults(node, path)
    for name, value in node.items():
        yield from target_faults(value, (*path, str(name)))


def _own_faults(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Fault]:
    for name in ("_partial_", "_recursive_"):
        if not isinstance(node.get(name, True), bool):
            yield Fault((*path, name), f"={written(node[name])} must be true or false")
    target = node["_target_"]
    if not isinstance(target, str) or not target.startswith(PACKAGES):
        yield Fault((*path, "_target_"), f"={written(target)} is not allowed; it must start with {', '.join(PACKAGES)}")
        return
    try:
        call = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        hint = "install what is missing (requirements.txt), or " * isinstance(error, ImportError)
        yield Fault((*path, "_target_"), f"={written(target)} cannot be imported ({error}); {hint}correct the name")
        return
    if target.startswith(_CHECKED):
        given = {name: value for name, value in node.items() if not str(name).startswith("_")}
        for fault in call_faults(call, given, complete=not node.get("_partial_"), described=True):
            yield Fault((*path, *fault.path), fault.sentence)
