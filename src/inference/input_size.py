"""The size at which a net sees an image, and images brought there."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor

from ..ops.resize import same_size

__all__ = ["LEAST_SIDE", "resize_area", "seen_size"]

LEAST_SIDE = 32  # pixels; smaller maps have nothing left at 1/32


def seen_size(
    size: Sequence[int], scale: float, *, short_side: int | None = None, long_side: int | None = None
) -> list[int]:
    """Height and width at which the net sees an image of ``size`` at ``scale``, no side below 32 unless it was.

    Args:
        size: height and width of the image; symbols where a graph is exported for all sizes.
        scale: factor on scale 1.
        short_side, long_side: scale 1 is the largest size at which neither side is longer than given, in pixels.
    """
    if any(isinstance(side, torch.SymInt) for side in size):
        return _symbolic_size(size, scale, short_side, long_side)
    sides = (short_side, min), (long_side, max)
    scale *= min((wanted / side(size) for wanted, side in sides if wanted), default=1)
    return list(size) if scale == 1 else [max(LEAST_SIDE, round(side * scale)) for side in size]


def _symbolic_size(size: Sequence[int], scale: float, short_side: int | None, long_side: int | None) -> list[int]:
    """The same in whole numbers, all that torch can compare symbols in; only exact halves are rounded otherwise."""
    if not short_side and not long_side and scale == 1:
        return list(size)
    times, over = Fraction(scale).limit_denominator(1000).as_integer_ratio()
    sides = (short_side, torch.sym_min(*size)), (long_side, torch.sym_max(*size))
    factors = [(times * wanted, over * reference) for wanted, reference in sides if wanted] or [(times, over)]
    scaled = [[(2 * times * side + over) // (2 * over) for side in size] for times, over in factors]
    smaller = scaled[0] if len(scaled) == 1 else [torch.sym_min(*pair) for pair in zip(*scaled, strict=True)]
    return [cast("int", torch.sym_max(LEAST_SIDE, side)) for side in smaller]


def resize_area(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes as ``data.eval_long_edge`` does: the mean of the area that a new pixel covers, bilinear to larger sizes.

    The same as OpenCV's ``INTER_AREA`` and ``INTER_LINEAR``, which round to whole grey levels besides.

    Args:
        x: (B,C,H,W) float.
        size: target height and width in pixels.

    Returns:
        (B,C,*size); ``x`` itself, not a copy, when it already has that size.
    """
    if same_size(x.shape[-2:], size):
        return x
    rows, columns = (_shares(side, wanted, x) for side, wanted in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.T


def _shares(given: int, wanted: int, like: Tensor) -> Tensor:
    """(wanted, given), rows of sum 1: how much of each new pixel an old one makes up.

    A new pixel covers at least the width of an old one around its centre: of more, this is the mean over its area; of
    exactly one, it is linear interpolation. In units of 1 / (2 wanted) of an old pixel all ends are whole numbers.
    """
    centre = (2 * torch.arange(wanted, device=like.device)[:, None] + 1) * given
    half = torch.sym_max(given, wanted)
    start = 2 * wanted * torch.arange(given, device=like.device)
    overlap = torch.minimum(centre + half, start + 2 * wanted) - torch.maximum(centre - half, start)
    overlap = overlap.clamp(min=0).float()
    return (overlap / overlap.sum(1, keepdim=True)).to(like.dtype)
