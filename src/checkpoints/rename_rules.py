"""Renames the tensors of a checkpoint from another project's layout to this project's.

A layout is a tuple of rules ``(pattern, replacement)``. Every rule is applied to every name, in order, as ``re.sub``
does: early rules move whole modules, late ones rename what is inside. A name that becomes empty is left out: a second
name of the same tensor, or a table of the other project's loss. Nothing is guessed: each other tensor of the checkpoint
must land on exactly one of the net's, with the same shape, and none of the net's may stay unfilled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from ..errors import UserError

__all__ = ["Rules", "convert", "rename"]

Rules = Sequence[tuple[str, str]]


def rename(name: str, rules: Rules) -> str:
    """The name after all rules."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def convert(state: Mapping[str, Tensor], rules: Rules, target_shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A foreign state dict under this project's names; the tensors are the same objects.

    Args:
        state: tensors by the other project's names.
        rules: from those names to ours.
        target_shapes: shape of every tensor of the net's state dict, by our names.

    Returns:
        A state dict that the net loads strictly, in the order of ``target_shapes``.

    Raises:
        UserError: listing the first names that are missing, unexpected, doubled or of another shape.
    """
    sources: dict[str, list[str]] = {}
    for name in state:
        if new := rename(name, rules):
            sources.setdefault(new, []).append(name)
    shapes = {new: (tuple(state[old[0]].shape), tuple(target_shapes.get(new, ()))) for new, old in sources.items()}
    problems = {
        "missing": [new for new in target_shapes if new not in sources],
        "unexpected": [old for new, names in sources.items() if new not in target_shapes for old in names],
        "doubled": [f"{' and '.join(names)} for {new}" for new, names in sources.items() if len(names) > 1],
        "of another shape": [
            f"{sources[new][0]} {given} for {new} {wanted}"
            for new, (given, wanted) in shapes.items()
            if new in target_shapes and given != wanted
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise UserError(
            f"the checkpoint does not fit the net ({found}); choose the model and num_classes it was made with"
        )
    return {new: state[sources[new][0]] for new in target_shapes}


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
