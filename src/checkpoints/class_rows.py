"""Which tensors of a net have one row per class, and how to take classes out of them or across to another net.

Nothing is guessed from names: what has another shape in the same net with one class more belongs to the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Axes", "carry_over", "class_axes", "count_classes", "same_classes", "take_classes"]

Axes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its axes that count the classes."""


def class_axes(state: Mapping[str, Tensor], wider: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The class axes of a net, from its state dict and that of the same net with another number of classes."""
    axes = {
        name: tuple(i for i, (a, b) in enumerate(zip(tensor.shape, wider[name].shape, strict=True)) if a != b)
        for name, tensor in state.items()
    }
    return {name: found for name, found in axes.items() if found}


def count_classes(state: Mapping[str, Tensor], axes: Axes) -> int | None:
    """The number of classes that the class axes in ``state`` agree on; ``None`` if there are none, or they do not."""
    counts = {
        state[name].shape[axis] if axis < state[name].ndim else 0
        for name in axes.keys() & state.keys()
        for axis in axes[name]
    }
    return counts.pop() if len(counts) == 1 else None


def take_classes(state: Mapping[str, Tensor], axes: Axes, rows: Sequence[int]) -> dict[str, Tensor]:
    """``state`` with only the classes ``rows``, in that order; what has no class axis is the same object."""
    taken = dict(state)
    for name in axes.keys() & state.keys():
        taken[name] = _select(state[name], axes[name], rows)
    return taken


def same_classes(given: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (position in ``given``, position in ``wanted``) of equal names, whatever their case, spaces and dashes."""
    places = {_plain(name): place for place, name in reversed(list(enumerate(given)))}
    return [(places[_plain(name)], place) for place, name in enumerate(wanted) if _plain(name) in places]


def carry_over(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], axes: Axes, pairs: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """``state`` with its classes where a net with other classes has them.

    Args:
        state: weights for a net.
        own: the net's state dict, whose values the other classes keep.
        axes: class axes of both.
        pairs: (class in ``state``, class in ``own``), as ``same_classes`` gives them.

    Returns:
        ``state``; its tensors with class axes have the shapes of ``own``, except for those that differ otherwise.
    """
    carried = dict(state)
    theirs, ours = [list(side) for side in zip(*pairs, strict=True)] or [[], []]
    for name in axes.keys() & state.keys() & own.keys():
        if _rest(state[name], axes[name]) == _rest(own[name], axes[name]):
            carried[name] = own[name].detach().clone()
            places: list[slice | Tensor] = [slice(None)] * own[name].ndim
            for i, axis in enumerate(axes[name]):
                places[axis] = torch.tensor(ours, dtype=torch.long).view(
                    [-1 if i == j else 1 for j in range(len(axes[name]))]
                )
            carried[name][tuple(places)] = _select(state[name], axes[name], theirs).to(own[name])
    return carried


def _select(tensor: Tensor, axes: Sequence[int], rows: Sequence[int]) -> Tensor:
    index = torch.tensor(rows, dtype=torch.long, device=tensor.device)
    for axis in axes:
        tensor = tensor.index_select(axis, index)
    return tensor


def _rest(tensor: Tensor, axes: Sequence[int]) -> list[int]:
    """The sizes that do not count classes; -1 stands for those that do."""
    return [-1 if axis in axes else size for axis, size in enumerate(tensor.shape)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " _-")
