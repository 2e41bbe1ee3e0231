"""Checks what a config builds, every ``_target_`` in it, against its place and the signature of what is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from src.build import allowed
from src.build.instantiate import Kind
from src.errors import UserError
from src.schema.faults import Fault, call_faults
from src.schema.words import written

__all__ = ["called_at", "target_faults"]

_KINDS = {
    "model.net": allowed.NET,
    "model.scales": allowed.SCALES,
    "inference": allowed.INFERENCE,
    "data.dataset": allowed.DATA,
    "transforms": allowed.TRANSFORM,
    "sampler": allowed.SAMPLER,
    "loss": allowed.LOSS,
    "aux_loss": allowed.LOSS,
    "optimizer.algorithm": allowed.OPTIMIZER,
    "schedule": allowed.SCHEDULE,
    "callbacks": allowed.CALLBACK,
    "logger": allowed.LOGGER,
}
_CHECKED = ("src.", "torch.optim.", "pytorch_lightning.")  # those of others check their arguments themselves


def called_at(path: tuple[str, ...], target: Any) -> Any:
    """What a ``_target_`` at a place of the config names.

    Raises:
        UserError: if that place does not allow it.
    """
    for place, kind in _KINDS.items():
        if path[: place.count(".") + 1] == tuple(place.split(".")):
            return kind.find(target)
    raise UserError(f"{'.'.join(path)}._target_={target}: nothing is built here; leave it out")


def target_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with what ``values``, a tree of plain containers, describes in the places that are built."""
    for place, kind in _KINDS.items():
        path, node = tuple(place.split(".")), values
        for name in path:
            node = node.get(name) if isinstance(node, Mapping) else None
        yield from _faults(node, path, kind)


def _faults(node: Any, path: tuple[str, ...], kind: Kind) -> Iterator[Fault]:
    if isinstance(node, list | tuple):
        for each in node:
            yield from _faults(each, path, kind)
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        yield from _own_faults(node, path, kind)
    for name, value in node.items():
        yield from _faults(value, (*path, str(name)), kind)


def _own_faults(node: Mapping[str, Any], path: tuple[str, ...], kind: Kind) -> Iterator[Fault]:
    if not isinstance(node.get("_partial_", True), bool):
        yield Fault((*path, "_partial_"), f"={written(node['_partial_'])} must be true or false")
    try:
        call = kind.find(node["_target_"])
    except UserError as error:
        yield Fault((*path, "_target_"), f"={error}")
        return
    if node["_target_"].startswith(_CHECKED):
        given = {name: value for name, value in node.items() if not str(name).startswith("_")}
        for fault in call_faults(call, given, complete=not node.get("_partial_"), described=True):
            yield Fault((*path, *fault.path), fault.sentence)
