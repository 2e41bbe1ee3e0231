"""What every net has in common: one way from the last feature map to logits of the image's size."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from src.models.checks import check_count, check_image
from src.ops.resize import resize

__all__ = ["Net"]


class Net(nn.Module):
    """Base of all nets; a net writes ``decode`` and sets ``feature_channels``.

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

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, align_corners: bool = False, reduced_labels: bool = False
    ) -> None:
        super().__init__()
        check_count("num_classes", num_classes)
        check_count("in_channels", in_channels)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.align_corners, self.reduced_labels = align_corners, reduced_labels

    def check(self, image: Tensor) -> None:
        """Refuses what the net cannot take; ``decode`` begins with it.

        Raises:
            UserError: unless the image is as ``decode`` wants it.

        Warns:
            UserWarning: if ``align_corners`` shifts features against pixels at this size.
        """
        backbone = getattr(self, "backbone", None)
        least = max(self.min_size, getattr(backbone, "min_size", 0))
        check_image(image, in_channels=self.in_channels, min_size=least)
        if self.align_corners and backbone is not None:
            _warn_of_shift(image, output_stride=backbone.strides[-1])

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


def _warn_of_shift(image: Tensor, *, output_stride: int) -> None:
    """Tells that the corners of the map are not the corners of the image, which align_corners=true takes for granted.

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
