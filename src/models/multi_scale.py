"""What the nets around a net share: lists of scales, images at a scale, and names for what each scale predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from src.errors import UserError
from src.ops.resize import resize

__all__ = ["check_scaled_size", "own_predictions", "rescale", "resized", "sorted_scales"]


def sorted_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The list from the smallest scale on.

    Raises:
        UserError: unless it holds numbers above 0, each once to the hundredth, and 1.0 among them.
    """
    if isinstance(scales, str) or not all(isinstance(scale, int | float) and 0 < scale < math.inf for scale in scales):
        raise UserError(f"scales is {scales}; use factors above 0 on the image's size, such as [0.5, 1.0]")
    if 1 not in scales:
        raise UserError(f"scales is {list(scales)}; 1.0 must be among them, because the result has the image's size")
    if len({_percent(scale) for scale in scales}) < len(scales):
        raise UserError(f"scales is {list(scales)}; give each scale once (to the hundredth)")
    return tuple(sorted(float(scale) for scale in scales))


def rescale(image: Tensor, scale: float, *, align_corners: bool = False) -> Tensor:
    """(B,C,H,W) -> (B,C,floor(H*scale),floor(W*scale)), bilinear; the image itself at 1.0."""
    return image if scale == 1 else resize(image, _scaled_size(image, scale), align_corners=align_corners)


def check_scaled_size(image: Tensor, scale: float, *, least: int) -> None:
    """Refuses an image (B,C,H,W) that has a side below ``least`` pixels at ``scale``.

    Raises:
        UserError: naming both sizes, and that from which on the scale can be used.
    """
    needed = math.ceil(least / scale)
    if image.shape[-2] < needed or image.shape[-1] < needed:
        height, width = _scaled_size(image, scale)
        raise UserError(
            f"an image of {image.shape[-2]}x{image.shape[-1]} pixels (height x width) becomes {height}x{width} at scale"
            f" {scale:g}, below the least of {least}x{least}; enlarge or pad it to {needed}x{needed}, or leave out that"
            " scale"
        )


def resized(outputs: Mapping[str, Tensor], size: Sequence[int], *, align_corners: bool) -> dict[str, Tensor]:
    """The same maps, each resized to ``size`` (height, width): (B,C,h,w) -> (B,C,*size)."""
    return {name: resize(each, size, align_corners=align_corners) for name, each in outputs.items()}


def own_predictions(scales: Sequence[float], logits: Sequence[Tensor]) -> dict[str, Tensor]:
    """The logits of each scale as the auxiliary output ``aux_scale_<percent>``, three digits or more."""
    return {f"aux_scale_{_percent(scale):03d}": each for scale, each in zip(scales, logits, strict=True)}


def _scaled_size(image: Tensor, scale: float) -> list[int]:
    return [math.floor(side * scale) for side in image.shape[-2:]]


def _percent(scale: float) -> int:
    return round(100 * scale)
