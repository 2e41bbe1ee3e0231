"""The two contracts of this package: what every backbone and every net has, and what others may ask of a net."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..ops.resize import resize
from ..ops.scale_fusion import combine
from ..schema.faults import checked
from ..schema.types import Channels, Count
from .checks import check_image

__all__ = ["Backbone", "Net"]


class Backbone(nn.Module):
    """Base of all backbones; one sets ``channels`` and ``strides`` and writes ``forward``.

    ``forward(image)`` takes (B,C,H,W) and returns a list of feature maps, fine to coarse.
    """

    channels: list[int]  # of each feature map
    strides: list[int]  # of each feature map against the image
    checkpointing = False  # whether blocks keep their inputs only and are computed again in the backward pass
    min_size = 0  # smallest side of an image in pixels, where it exceeds that of all nets
    needs_all_read = False  # whether a map that no one reads would leave weights without gradient


class Net(nn.Module):
    """Base of all nets; a net writes ``decode`` and sets ``feature_channels``.

    The other members have defaults that fit a net on one scale of the image; ``src.models.multi_scale`` has the others.

    Args:
        num_classes: K, channels of the logits: one per class, or 1 for class 1 of two against class 0.
        in_channels: channels of the image.
        align_corners: of every bilinear resize in the net; its reference decides.
        reduced_labels: in training the outputs stay at their heads' resolution, and the loss reduces the label to it.

    Raises:
        UserError: for counts below 1.
    """

    feature_channels: int  # channels of ``features``
    reads_all = False  # whether every map of the backbone has a part in the logits
    min_size = 32  # smallest side of an image in pixels; a wrapper that feeds smaller ones lowers it

    @checked("model.net")
    def __init__(
        self,
        *,
        num_classes: Count,
        in_channels: Channels = 3,
        align_corners: bool = False,
        reduced_labels: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.align_corners, self.reduced_labels = align_corners, reduced_labels

    @property
    def backbone(self) -> Backbone | None:
        """The sub-module of that name, which a net registers by assignment; ``None`` in a net without backbone."""
        return cast("Backbone | None", self._modules.get("backbone"))

    @property
    def scales(self) -> tuple[float, ...]:
        """Scales of the image that the net itself sees and fuses in evaluation; empty if it sees the image alone."""
        return ()

    def check(self, image: Tensor) -> None:
        """Refuse an image that the net cannot take; ``decode`` begins with it.

        Raises:
            UserError: unless the image is as ``decode`` wants it.

        Warns:
            UserWarning: if ``align_corners`` shifts features against pixels at this size.
        """
        least = max(self.min_size, 0 if self.backbone is None else self.backbone.min_size)
        check_image(image, in_channels=self.in_channels, min_size=least)
        if self.align_corners and self.backbone is not None:
            _warn_of_shift(image, output_stride=self.backbone.strides[-1])

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Outputs before the last resize.

        Args:
            image: (B,in_channels,H,W) normalised float, H and W at least ``min_size``, the net's and its backbone's.

        Returns:
            ``logits`` (B,K,h,w); ``aux_<name>`` (B,K,h',w') in training; ``features`` (B,feature_channels,h,w), which
            the last classifier reads and other heads may read.

        Raises:
            UserError: for any other image.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """``decode`` without ``features``, every map resized to the image's size (bilinear).

        With ``reduced_labels`` the maps keep their size in training.
        """
        outputs = self.decode(image)
        del outputs["features"]
        if self.training and self.reduced_labels:
            return outputs
        size = image.shape[-2:]
        return {name: resize(logits, size, align_corners=self.align_corners) for name, logits in outputs.items()}

    def full_size_logits(
        self, image: Tensor, *, resize: Callable[..., Any] = resize, combine: Callable[..., Any] = combine
    ) -> Any:
        """The ``logits`` of ``forward`` in evaluation, with a choice of how they are resized and fused.

        Inference calls this with functions that only note what is to be done, and then does it a few rows at a time.

        Args:
            image: see ``decode``.
            resize: has the parameters of ``src.ops.resize.resize``.
            combine: has the parameters of ``src.ops.scale_fusion.combine``.

        Returns:
            (B,K,H,W) at the image's size, of the type that ``resize`` gives.
        """
        return resize(self.decode(image)["logits"], image.shape[-2:], align_corners=self.align_corners)


def _warn_of_shift(image: Tensor, *, output_stride: int) -> None:
    """Warn that the corners of the map are not the corners of the image, which align_corners=true assumes.

    Warns:
        UserWarning: unless height and width are k * output_stride + 1.
    """
    height, width = image.shape[-2:]
    if torch.compiler.is_compiling() or ((height - 1) % output_stride == 0 and (width - 1) % output_stride == 0):
        return
    fit = [round((side - 1) / output_stride) * output_stride + 1 for side in (height, width)]
    warnings.warn(
        f"with align_corners=true a {height}x{width} image shifts features against pixels; use sizes of"
        f" k*{output_stride}+1, such as {fit[0]}x{fit[1]}",
        stacklevel=3,
    )
