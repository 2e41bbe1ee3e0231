"""The base of the nets around a net: lists of scales, images at a scale, and names for what each scale predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from ..errors import UserError
from ..ops.resize import resize
from .checks import check_image
from .net import Net

__all__ = ["MultiScale", "check_scaled_size", "own_predictions", "rescale", "resized", "sorted_scales"]


class MultiScale(Net):
    """Base of the nets that show a net several scales of the image and fuse its outputs.

    Args:
        net: the net, shared by all scales.
        scales: factors on the image's size, in any order; 1.0 must be among them.
        supervise: in training, also give the prediction of each scale.
        reduced_labels: see ``Net``.

    Raises:
        UserError: for scales that ``sorted_scales`` refuses.
    """

    net: Net

    def __init__(self, net: Net, scales: Sequence[float], *, supervise: bool, reduced_labels: bool = False) -> None:
        super().__init__(
            num_classes=net.num_classes,
            in_channels=net.in_channels,
            align_corners=net.align_corners,
            reduced_labels=reduced_labels,
        )
        self.scales = scales
        self.supervise = supervise
        self.net, self.feature_channels = net, net.feature_channels

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales, from the smallest on; an assignment sorts them and refuses illegal ones."""
        return self._scales

    @scales.setter
    def scales(self, scales: Sequence[float]) -> None:
        self._scales = sorted_scales(scales)

    def check_scales(self, image: Tensor, scales: Sequence[float]) -> None:
        """Refuse an image that the net cannot take at one of ``scales``, the smallest first.

        Raises:
            UserError: naming what was expected and what was given.
        """
        check_image(image, in_channels=self.in_channels, min_size=self.net.min_size)
        check_scaled_size(image, scales[0], least=self.net.min_size)


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
    """Refuse an image (B,C,H,W) that has a side below ``least`` pixels at ``scale``.

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
