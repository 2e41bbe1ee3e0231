"""Atrous spatial pyramid pooling of DeepLab v3 (Chen et al. 2017, arXiv 1706.05587, section 3.3), which v3+ shares."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..ops.resize import resize
from .checks import check_choice, check_dropout, check_pooled, check_rates
from .layers import ConvNormAct

__all__ = ["ASPP", "ImagePooling", "rates_at", "window_at"]

RATES = (6, 12, 18)  # at output stride 16


class ImagePooling(nn.Module):
    """Image-level features (section 3.3): average, 1x1 convolution, resize: (B,C,H,W) -> (B,out_channels,H,W).

    Args:
        in_channels: C.
        out_channels: channels of the result.
        window: height and width of the average in pixels of the map; a larger map is averaged around each pixel, so
            that the statistics stay those of the training crop (released code). An exported graph then takes larger
            images only. ``None`` averages the whole map.
        align_corners: of the resize that follows a window.

    Raises:
        UserError: in training on one image, whose pooled map gives batch norm a single value per channel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, window: tuple[int, int] | None = None, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.window, self.align_corners = window, align_corners
        self.conv = ConvNormAct(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        if self.window is None:
            check_pooled(self.conv.norm, x)
            return self.conv(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *size)
        kernel = [min(window, side) for window, side in zip(self.window, size, strict=True)]
        pooled = F.avg_pool2d(x, kernel, stride=1)
        if self.training and pooled.shape[-2:] == (1, 1):
            check_pooled(self.conv.norm, pooled)
        return resize(self.conv(pooled), size, align_corners=self.align_corners)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with batch norm and image pooling (section 3.3): (B,C,H,W) -> (B,channels,H,W).

    A 1x1 convolution, one 3x3 convolution per rate and image pooling see the map in parallel; a last convolution
    projects their concatenation.

    Args:
        in_channels: C.
        channels: of each branch and of the result.
        rates: of the 3x3 convolutions.
        conv: makes those from input channels, output channels and ``dilation``.
        image_pooling: its place in the concatenation, ``"last"`` or ``"first"`` (mmsegmentation, released code);
            ``None`` leaves it out.
        pooling_window: see ``ImagePooling``.
        projection_kernel: 1, or 3 (mmsegmentation).
        dropout: share of single values that is zeroed after the projection in training.
        align_corners: see ``ImagePooling``.

    Raises:
        UserError: for rates below 1 or a word that is no place.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: Sequence[int],
        conv: Callable[..., nn.Module] = ConvNormAct,
        image_pooling: Literal["last", "first"] | None = "last",
        pooling_window: tuple[int, int] | None = None,
        projection_kernel: int = 1,
        dropout: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        check_rates("aspp_rates", rates)
        check_choice("projection_kernel", str(projection_kernel), ("1", "3"))
        self.rates, self.image_pooling = list(rates), image_pooling
        self.point = ConvNormAct(in_channels, channels, kernel_size=1)
        self.atrous = nn.ModuleList(conv(in_channels, channels, dilation=rate) for rate in rates)
        branches = 1 + len(rates)
        if image_pooling is not None:
            self.pooling = ImagePooling(in_channels, channels, window=pooling_window, align_corners=align_corners)
            branches += 1
        self.project = ConvNormAct(branches * channels, channels, kernel_size=projection_kernel)
        check_dropout("aspp_dropout", dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        self._warn_of_narrow(x)
        branches = [self.point(x), *(branch(x) for branch in self.atrous)]
        if self.image_pooling is not None:
            branches.insert(0 if self.image_pooling == "first" else len(branches), self.pooling(x))
        return self.dropout(self.project(torch.cat(branches, dim=1)))

    def _warn_of_narrow(self, x: Tensor) -> None:
        """At rate r an outer weight works on side - r of side rows; crop 321 of the paper's Table 8 leaves 3 of 21."""
        if self.training and not torch.compiler.is_compiling() and 4 * max(self.rates) > 3 * min(x.shape[-2:]):
            warnings.warn(
                f"from most pixels of a {x.shape[2]}x{x.shape[3]} map the ASPP rate {max(self.rates)} reaches past the"
                " border, so that its 3x3 convolution works as a 1x1 (67.2 instead of 77.2 mIoU in the paper); train on"
                " larger crops or lower aspp_rates",
                stacklevel=2,
            )


def rates_at(output_stride: int, rates: Sequence[int] | None) -> list[int]:
    """ASPP's rates: those given, or the paper's 6, 12, 18 at output stride 16 and twice that at 8 (half at 32).

    Raises:
        UserError: if they are neither given nor known for the output stride.

    Warns:
        UserWarning: if the given rates look like those of output stride 16 and it is 8.
    """
    if rates is None:
        if output_stride > 32:
            raise UserError(f"aspp_rates must be given at output_stride {output_stride}; null is for 8, 16 and 32")
        return [rate * 16 // output_stride for rate in RATES]
    check_rates("aspp_rates", rates)
    if output_stride == 8 and max(rates) < 2 * RATES[-1]:
        warnings.warn(
            f"aspp_rates {list(rates)} reach less far at output_stride 8 than the papers' 6, 12, 18 at 16, which they"
            " double; double yours, or leave aspp_rates null",
            stacklevel=3,
        )
    return list(rates)


def window_at(output_stride: int, pixels: Sequence[int] | None) -> tuple[int, int] | None:
    """Pixels of the image, height and width -> pixels of the map.

    Raises:
        UserError: unless these are two whole numbers of 1 or more.
    """
    if pixels is None:
        return None
    if len(pixels) != 2 or any(side != int(side) or side < 1 for side in pixels):
        raise UserError(f"image_pooling_size is {list(pixels)}; give height and width in pixels of the image, or null")
    height, width = (-(-int(side) // output_stride) for side in pixels)
    return height, width
