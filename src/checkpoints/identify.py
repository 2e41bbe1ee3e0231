"""Another project's state dict: whose it is, and its tensors under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import UserError, nearest
from .projects.catalogue import SOURCES
from .rename_rules import Rules, convert, rename

__all__ = ["identify", "renamed", "source_named", "translate"]

_COUNTER = "num_batches_tracked"  # of a batch norm; absent before PyTorch 0.4.1, and no part of what a net computes
_OF_THE_LOSS = re.compile(r"(^|\.)(loss|loss_decode|criterion)\.")  # class weights may stand beside the net
_ENOUGH = 0.5  # of a net's names; a file of another project has a few in common at most
_LIST = "docs/published_weights.md lists which model loads which file"


def source_named(name: str) -> str:
    """The key in ``SOURCES`` of ``name``: itself, the project, its owner or its repository, in any case.

    Raises:
        UserError: for any other name.
    """
    for key, source in SOURCES.items():
        if name.casefold() in (key, *(part.casefold() for part in (source.project, *source.project.split("/")))):
            return key
    raise UserError(f"source={name} is unknown; use {', '.join(SOURCES)}.{nearest(name, SOURCES)}")


def identify(
    state: Mapping[str, Tensor], kind: str, names: Sequence[str], *, named: str | None, model: str, where: object
) -> str:
    """The key in ``SOURCES`` of the project that the names in ``state`` tell.

    Args:
        state: tensors by the project's names.
        kind: class of the net that they are for.
        names: of the net's tensors.
        named: the project that it must be, if one was named.
        model: config of the net, for the error.
        where: file, for the error.

    Raises:
        UserError: if it is another project's than was named, or of no project that has such a net.
    """
    wanted = {name for name in names if not name.endswith(_COUNTER)}
    shares = {
        key: len(renamed(state, source.rules[kind]).keys() & wanted) / len(wanted)
        for key, source in SOURCES.items()
        if kind in source.rules
    }
    named = named and source_named(named)
    if named and named not in shares:
        models = ", ".join(dict.fromkeys(each.split()[0] for each in SOURCES[named].models))
        raise UserError(f"source={named} has no net like model={model}; its models are {models}")
    best = max(shares, key=lambda key: (shares[key], key == named), default=None)
    if best is None or shares[best] <= _ENOUGH:
        known = f"source={named}" if named else "any known project"
        some = ", ".join(list(state)[:3])
        raise UserError(f"{where}: is no file of {known} for model={model}, since it holds {some}, ...; {_LIST}")
    if named not in (None, best):
        raise UserError(f"{where}: is not of source={named}, its tensors have the names of source={best}; set that")
    return best


def renamed(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """``state`` under our names, without what the rules leave out; nothing is checked."""
    return {new: tensor for name, tensor in state.items() if (new := rename(name, rules))}


def translate(state: Mapping[str, Tensor], rules: Rules, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A project's state dict as ours, complete and with nothing left over.

    Only two kinds of tensors may be absent or too many, since no net computes with them: the counters of batch norms,
    0 where they are absent, and tables of a loss, which are left out.

    Args:
        state: tensors by the project's names.
        rules: from those names to ours.
        shapes: of every tensor of the net, by our names.

    Raises:
        UserError: listing the first names that are missing, unexpected, doubled or of another shape.
    """
    weights = {name: t for name, t in state.items() if not name.endswith(_COUNTER) and not _OF_THE_LOSS.search(name)}
    counters = renamed({name: t for name, t in state.items() if name.endswith(_COUNTER)}, rules)
    found = convert(weights, rules, {name: shape for name, shape in shapes.items() if not name.endswith(_COUNTER)})
    return {
        name: found[name] if name in found else counters.get(name, torch.zeros((), dtype=torch.long)) for name in shapes
    }
