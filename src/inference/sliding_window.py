"""Ways to cover an image: at once, or by overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Len, Lt
from torch import Tensor

from ..schema.faults import checked
from ..schema.types import Count, Words
from .lazy_rows import NetLike, Rows, net_rows

__all__ = ["Sliding", "starts"]

WindowSize = Annotated[
    Sequence[Annotated[int, Ge(32)]], Len(2, 2), Words("[height, width] in pixels, whole numbers from 32 on")
]


class Sliding:
    """Windows from left to right and from top to bottom, the last of each row and column moved back to the border.

    Where windows overlap, their logits are averaged, with weights that sum to one at every pixel. An image smaller than
    a window is seen whole in that direction.

    Args:
        size: height and width of a window in pixels.
        overlap: least share of a window that the next one covers again, 0 to below 1.
        blend: ``"feather"`` trusts a window less the nearer its border is, over the width of the overlap;
            ``"uniform"`` trusts all its pixels alike, as published code does.
        batch: windows that the net sees at once.

    Raises:
        UserError: for values outside these limits.
    """

    @checked("inference.window")
    def __init__(
        self,
        size: WindowSize = (512, 512),
        overlap: Annotated[float, Ge(0), Lt(1)] = 1 / 3,
        blend: Literal["feather", "uniform"] = "feather",
        batch: Count = 1,
    ) -> None:
        self.size, self.overlap, self.blend, self.batch = (size[0], size[1]), overlap, blend, batch

    def __call__(self, net: NetLike, image: Tensor, multiple: int = 1) -> Rows:
        """The logits of ``net`` on an image (B,3,H,W), computed as their rows are asked for; see ``net_rows``."""
        return _Stitched(net, image, self, multiple)

    def weights(self, side: int, window: int) -> tuple[list[int], Tensor]:
        """Along one axis: where windows begin, and (windows, window) float32, the weight of each pixel of each.

        At every pixel of the image the weights of the windows that cover it sum to one.
        """
        window = min(window, side)
        begins = starts(side, window, self.overlap)
        ramp = torch.ones(window, dtype=torch.float64)
        if self.blend == "feather":
            edge = torch.arange(1, window + 1, dtype=torch.float64)
            ramp = torch.minimum(edge, edge.flip(0)).clamp_(max=math.floor(window * self.overlap) + 1)
        total = torch.zeros(side, dtype=torch.float64)
        for begin in begins:
            total[begin : begin + window] += ramp
        return begins, torch.stack([ramp / total[begin : begin + window] for begin in begins]).float()


def starts(side: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along an axis of ``side`` pixels; the last ends at its end."""
    step = max(1, math.floor(window * (1 - overlap) + 0.5))
    count = math.ceil((side - window) / step) + 1
    return [min(i * step, side - window) for i in range(count)]


class _Stitched(Rows):
    """Rows of overlapping windows; only those are kept that may still be asked for or added to."""

    def __init__(self, net: NetLike, image: Tensor, windows: Sliding, multiple: int) -> None:
        self.net, self.image, self.batch, self.multiple = net, image, windows.batch, multiple
        self.size = (image.shape[-2], image.shape[-1])
        self.tops, self.down = windows.weights(self.size[0], windows.size[0])
        self.lefts, self.across = windows.weights(self.size[1], windows.size[1])
        self._next, self._first = 0, 0  # row of windows to come, and first row in the buffer
        self._buffer: Tensor | None = None

    def __call__(self, start: int, stop: int) -> Tensor:
        buffer = self._buffer
        while buffer is None or (self._next < len(self.tops) and self.tops[self._next] < stop):
            buffer = self._buffer = self._added(buffer, self._band(self._next), self.tops[self._next], start)
            self._next += 1
        return buffer[:, :, start - self._first : stop - self._first]

    def _band(self, row: int) -> Tensor:
        """(B,K,h,W): one row of windows, each times its weights."""
        top, (height, width) = self.tops[row], (self.down.shape[1], self.across.shape[1])
        images = self.image.shape[0]
        band: Tensor | None = None  # made when the first window tells the number of classes
        for first in range(0, len(self.lefts), self.batch):
            lefts = self.lefts[first : first + self.batch]
            tiles = torch.cat([self.image[:, :, top : top + height, left : left + width] for left in lefts])
            logits = net_rows(self.net, tiles, self.multiple)(0, height).split(images)
            for i, (left, each) in enumerate(zip(lefts, logits, strict=True), first):
                if band is None:
                    band = each.new_zeros(images, each.shape[1], height, self.size[1])
                # Weights of both axes sum to one at each pixel, so windows add up without a division afterwards.
                band[..., left : left + width] += each * self.across[i].to(each)
        assert band is not None  # there is at least one window
        return band * self.down[row].to(band).view(-1, 1)

    def _added(self, buffer: Tensor | None, band: Tensor, top: int, start: int) -> Tensor:
        """The buffer with a band whose first row is ``top``."""
        if buffer is None:
            self._first = top
            return band
        buffer = buffer[:, :, max(0, start - self._first) :]  # rows above will not be asked for again
        self._first = max(self._first, start)
        overlap = self._first + buffer.shape[2] - top
        buffer = torch.cat([buffer, torch.zeros_like(band[:, :, overlap:])], dim=2)
        buffer[:, :, top - self._first :] += band
        return buffer
