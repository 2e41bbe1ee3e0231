"""Pure tensor functions that more than one package needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["resize"]


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
    # an exported graph must not branch on symbolic sizes; resizing to the same size copies the map unchanged
    if not torch.compiler.is_exporting() and x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners if mode == "bilinear" else None)
