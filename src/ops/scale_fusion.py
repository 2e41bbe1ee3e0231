"""How maps of several scales or mirror images of one image become one map, in training and inference.

* ``fuse``: mean or maximum of logits, or mean of probabilities; one map after the other.
* ``mean_log_probabilities``: the mean of probabilities again, for training.
* ``weighted_sum``: with a weight per scale and pixel (explicit attention).
* ``fuse_hierarchical``: by attention between neighbouring scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .resize import resize

__all__ = [
    "FUSIONS",
    "Fusion",
    "combine",
    "fuse",
    "fuse_hierarchical",
    "hierarchical_weights",
    "mean_log_probabilities",
    "weighted_sum",
]

Fusion = Literal["mean_probabilities", "mean", "max"]
FUSIONS = get_args(Fusion)


def fuse(maps: Iterable[Tensor], how: Fusion) -> Tensor:
    """One map from logits of several scales or mirror images.

    Args:
        maps: (B,K,H,W) each, one or more, taken one by one, so that they need not all be in memory.
        how: the mean or the maximum of the logits, or ``mean_probabilities``: the logarithm of the mean softmax.

    Returns:
        (B,K,H,W).

    Raises:
        ValueError: without any map.
    """
    total, count = None, 0
    for each in maps:
        if how == "mean_probabilities":
            each = each.softmax(1)
        if total is None:
            total = each
        elif how == "max":
            total = torch.maximum(total, each)
        else:
            total = total + each
        count += 1
    if total is None:
        raise ValueError("no maps to fuse")
    if how == "max":
        return total
    mean = total / count
    if how == "mean":
        return mean
    return mean.clamp_(min=torch.finfo(mean.dtype).tiny).log_()  # a probability of 0 would be minus infinity


def mean_log_probabilities(maps: Sequence[Tensor]) -> Tensor:
    """As ``fuse`` by ``mean_probabilities``, in float32 and in log space, where no probability is clamped.

    It costs several times as much and all maps at once. But a gradient reaches the most improbable classes, so nets
    that fuse in training use it, and in evaluation they give the same numbers.
    """
    return reduce(torch.logaddexp, [x.float().log_softmax(dim=1) for x in maps]) - math.log(len(maps))


def weighted_sum(weights: Tensor, *maps: Tensor) -> Tensor:
    """The sum of maps (B,C,H,W), each times its channel of ``weights`` (B,S,H,W)."""
    return reduce(torch.add, [weights[:, i : i + 1] * each for i, each in enumerate(maps)])


def combine(function: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    """``function`` of maps of one size, which treats every pixel alike."""
    return function(*maps)


def fuse_hierarchical(
    maps: Sequence[Any],
    attention: Sequence[Any],
    scales: Sequence[float],
    *,
    align_corners: bool = False,
    resize: Callable[..., Any] = resize,
    combine: Callable[..., Any] = combine,
) -> Any:
    """Maps of several image scales as one, by attention between neighbours (arXiv 2005.10821, section 3).

    From the largest scale down, each attention says how far its scale is trusted against everything finer; that of the
    largest is not used. The result so far is resized down to the next scale until 1.0x is reached; below, the product
    of attention and map is formed at the low resolution and then resized up, as is the attention.

    Args:
        maps: (B,C,h,w) per scale, h and w those of the scaled image.
        attention: (B,1,h,w) per scale, 0 to 1.
        scales: factors on the image's size, in the order of both; 1.0 is among them.
        align_corners: of the resizes.
        resize, combine: how maps are resized and combined; inference gives others, which do so a few rows at a time
            (``src.inference.lazy_rows``).

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
            # Weighting before the resize, as in the release: resizing first would mix logits of low attention in.
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
