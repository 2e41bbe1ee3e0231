"""Maps of several image scales as one, in training and inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from src.ops.resize import resize

__all__ = ["combine", "fuse_hierarchical", "hierarchical_weights"]


def combine(function: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    """``function`` of maps of one size, which treats every pixel alike."""
    return function(*maps)


def fuse_hierarchical(
    maps: Sequence[Tensor],
    attention: Sequence[Tensor],
    scales: Sequence[float],
    *,
    align_corners: bool = False,
    resize: Callable[..., Tensor] = resize,
    combine: Callable[..., Tensor] = combine,
) -> Tensor:
    """Maps of several image scales as one, by attention between neighbours (arXiv 2005.10821, section 3).

    From the largest scale down, each attention says how far its scale is trusted against everything finer; that of the
    largest is not used. The result so far is resized down to the next scale until 1.0x is reached; below, the product
    of attention and map is formed at the low resolution and then resized up, as is the attention.

    Args:
        maps: (B,C,h,w) per scale, h and w those of the scaled image.
        attention: (B,1,h,w) per scale, 0 to 1.
        scales: factors on the image's size, in the order of both; 1.0 is among them.
        align_corners: of the resizes.
        resize, combine: what the maps are made with; others than those of this file may do so a few rows at a time
            (``src.inference.rows``).

    Returns:
        (B,C,H,W) at 1.0x.
    """
    order = sorted(range(len(scales)), key=lambda i: -scales[i])
    fused = maps[order[0]]
    for i in order[1:]:
        if scales[i] >= 1:
            finer = resize(fused, maps[i].shape[-2:], align_corners=align_corners)
            fused = combine(lambda a, own, finer: a * own + (1 - a) * finer, attention[i], maps[i], finer)
        else:
            size = fused.shape[-2:]
            trusted = resize(combine(torch.mul, attention[i], maps[i]), size, align_corners=align_corners)
            trust = resize(attention[i], size, align_corners=align_corners)
            fused = combine(lambda trusted, a, finer: trusted + (1 - a) * finer, trusted, trust, fused)
    return fused


def hierarchical_weights(
    attention: Sequence[Tensor], scales: Sequence[float], *, align_corners: bool = False
) -> Tensor:
    """What each scale contributes to ``fuse_hierarchical``: (B,S,H,W) at 1.0x, in the order given, with the sum 1."""
    each = torch.eye(len(scales), dtype=attention[0].dtype, device=attention[0].device)
    indicators = [
        one.view(1, -1, 1, 1).expand(a.shape[0], -1, *a.shape[-2:]) for one, a in zip(each, attention, strict=True)
    ]
    return fuse_hierarchical(indicators, attention, scales, align_corners=align_corners)
