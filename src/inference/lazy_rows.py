"""Maps that are computed a few rows at a time, so that logits of a large image never exist as a whole.

``Rows`` are (B,K,stop-start,W) float32; ``size`` is the height and width of all of them. From call to call, ``start``
must not fall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.net import Net
from ..ops.resize import resize, same_size

__all__ = ["Combined", "Mirrored", "NetLike", "Resized", "Rows", "Whole", "net_rows"]

NetLike = Net | Callable[[Tensor], Mapping[str, Tensor]]  # or anything that gives ``logits`` for an image


class Rows:
    """See the head of this file."""

    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """The last two entries of a tensor's shape."""
        return self.size

    def __call__(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` (exclusive)."""
        raise NotImplementedError


class Whole(Rows):
    """The rows of a (B,K,H,W) map that exists."""

    def __init__(self, full: Tensor) -> None:
        self.full, self.size = full, (full.shape[-2], full.shape[-1])

    def __call__(self, start: int, stop: int) -> Tensor:
        return self.full[:, :, start:stop].float()


class Mirrored(Rows):
    """Other rows from right to left."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.size = rows, rows.size

    def __call__(self, start: int, stop: int) -> Tensor:
        return self.rows(start, stop).flip(3)


class Resized(Rows):
    """Other rows, resized (bilinear) to ``size`` (height, width): the rows of ``src.ops.resize.resize`` of the whole.

    Args:
        rows: what is resized.
        size: height and width of the result.
        align_corners: see ``src.ops.resize.resize``.
    """

    def __init__(self, rows: Rows, size: Sequence[int], *, align_corners: bool = False) -> None:
        self.rows, self.size, self.align_corners = rows, (size[0], size[1]), align_corners

    def __call__(self, start: int, stop: int) -> Tensor:
        (height, width), least = self.size, self.rows.size[0]
        if same_size(self.rows.size, self.size):
            return self.rows(start, stop)
        if same_size((start, stop), (0, height)):
            return resize(self.rows(0, least), self.size, align_corners=self.align_corners)
        place = np.arange(start, stop, dtype=np.float64)  # a graph must not depend on values of tensors
        if self.align_corners:
            place *= (least - 1) / max(1, height - 1)
        else:
            place = np.maximum((place + 0.5) * least / height - 0.5, 0)
        # The two source rows around each wanted row, mixed as bilinear interpolation does; only this band is computed.
        above = np.minimum(place.astype(np.int64), least - 1)
        below = np.minimum(above + 1, least - 1)
        first = int(above[0])
        band = self.rows(first, int(below[-1]) + 1)
        share = torch.from_numpy(place - above).to(band).view(-1, 1)
        between = torch.lerp(band[:, :, above - first], band[:, :, below - first], share)
        return resize(between, (stop - start, width), align_corners=self.align_corners)


class Combined(Rows):
    """A function of other rows of one size, which treats every pixel alike."""

    def __init__(self, function: Callable[..., Tensor], *rows: Rows) -> None:
        self.function, self.rows, self.size = function, rows, rows[0].size

    def __call__(self, start: int, stop: int) -> Tensor:
        return self.function(*(each(start, stop) for each in self.rows))


class _Cropped(Rows):
    """The upper left part of other rows, of ``size`` (height, width)."""

    def __init__(self, rows: Rows, size: Sequence[int]) -> None:
        self.rows, self.size = rows, (size[0], size[1])

    def __call__(self, start: int, stop: int) -> Tensor:
        return self.rows(start, stop)[..., : self.size[1]]


def net_rows(net: NetLike, image: Tensor, multiple: int = 1) -> Rows:
    """The logits of a net on an image (B,3,H,W), at the image's size.

    A ``Net`` decodes now, and its maps are kept at the size at which it does, those of each scale where it fuses
    several; they are resized and fused when rows are asked for.

    Args:
        net: the net; one that is compiled, or no ``Net``, is called as a whole.
        image: normalised.
        multiple: sides are padded to, below and to the right, with zeros, which the logits lose again; plus 1 for a net
            of aligned corners.
    """
    size = image.shape[-2:]
    extra = 1 if multiple > 1 and isinstance(net, Net) and net.align_corners else 0
    height, width = (-(side - extra) % multiple for side in size)
    if multiple > 1 and isinstance(height, torch.SymInt):
        # A graph that is exported for all sizes: no slice may depend on them, but a negative pad may.
        padded = net_rows(net, F.pad(image, (0, width, 0, height)))
        return Whole(F.pad(padded(0, padded.size[0]), (0, -width, 0, -height)))
    if height or width:
        return _Cropped(net_rows(net, F.pad(image, (0, width, 0, height))), size)
    if not isinstance(net, Net) or net._compiled_call_impl is not None:  # only ``forward`` is compiled
        return Whole(net(image)["logits"])
    return net.full_size_logits(image, resize=_resize, combine=Combined)


def _resize(rows: Rows | Tensor, size: Sequence[int], *, align_corners: bool = False) -> Rows:
    """``src.ops.resize.resize`` of maps that exist or are computed row by row."""
    return Resized(rows if isinstance(rows, Rows) else Whole(rows), size, align_corners=align_corners)
