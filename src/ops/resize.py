"""Resizing of maps, also in graphs that are exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["resize", "same_size"]


def resize(
    x: Tensor,
    size: Sequence[int],
    mode: Literal["bilinear", "nearest"] = "bilinear",
    *,
    align_corners: bool = False,
) -> Tensor:
    """Resize a map to an exact size.

    Args:
        x: (B,C,H,W) float.
        size: target height and width in pixels.
        mode: interpolation.
        align_corners: the corner pixels' centres stay in place; true only for nets whose reference trained so.

    Returns:
        (B,C,*size); ``x`` itself, not a copy, when it already has that size.
    """
    if same_size(x.shape[-2:], size):
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners if mode == "bilinear" else None)


def same_size(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two sizes are equal; symbolic ones, of a graph that is exported, where that holds whatever they are.

    Such a graph must not branch on a size, and resizing to the same size copies a map unchanged.
    """
    if not torch.compiler.is_exporting():
        return tuple(first) == tuple(second)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return all(statically_known_true(a == b) for a, b in zip(first, second, strict=True))
