"""Random scale and random crop in one step: no pixel is resized that the crop throws away.

The window that the crop would show is cut from the source first, then only that window is resized, once.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np

from ...errors import UserError
from ...schema.faults import checked
from ...schema.types import Colour, Count, Fraction, Range, Scales, Size
from ..label_space import IGNORE_INDEX

__all__ = ["RandomScaleCrop"]

_CROP_TRIES = 10
_ENLARGING: dict[Any, int] = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}

Window = tuple[int, int, int, int]  # y, x, height, width in pixels of the source; it may overhang the image


class RandomScaleCrop(A.DualTransform):
    """Scale by a random factor and crop a random window, reading only the pixels that the window shows.

    Where the call has a ``focus`` (row, column in source pixels) the window contains it, at a uniformly random place as
    far as the image's border allows (class-uniform sampling, arXiv 2005.10821).

    Args:
        size: (height, width) of the crop in pixels of the scaled image.
        scale: two numbers are the range of a uniform factor, any other count is a list to choose from.
        output_size: (height, width) of the result where it is not ``size``.
        aspect: range of a uniform factor on width over height, at equal area.
        long_edge, short_side: before ``scale``, the image's longer side becomes the one, its shorter side the other; of
            both, the smaller result counts.
        pad: fill where the scaled image is smaller than ``size``; otherwise that is an error.
        fill: RGB (0..255) for padded image pixels; padded labels are ignored.
        interpolation: of enlarged images; shrunk ones are averaged, and labels take their nearest value.
        max_class_share: draw the window up to ten times until no class covers more than this share of its valid
            pixels; 1 switches it off.

    Raises:
        UserError: at construction for impossible values; on a too small image when ``pad`` is off.
    """

    @checked("transforms")
    def __init__(
        self,
        size: Size,
        scale: Scales = (0.5, 2.0),
        *,
        output_size: Size | None = None,
        aspect: Range = (1.0, 1.0),
        long_edge: Count | None = None,
        short_side: Count | None = None,
        pad: bool = True,
        fill: Colour = (0, 0, 0),
        interpolation: Literal["linear", "cubic"] = "linear",
        max_class_share: Fraction = 1.0,
    ) -> None:
        super().__init__(p=1.0)
        self.size = tuple(size)
        self.output_size = self.size if output_size is None else tuple(output_size)
        self.scale, self.aspect = tuple(scale), tuple(aspect)
        self.long_edge, self.short_side = long_edge, short_side
        self.pad, self.fill = pad, tuple(fill)
        self.interpolation = interpolation  # pyrefly: ignore[bad-assignment]  # the library means numbers of OpenCV
        self.max_class_share = max_class_share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the source window (y, x, height, width); it may be larger than the image where padding is allowed."""
        shape = data["image"].shape[:2]
        window = self._window_size(*shape)
        if not self.pad and (window[0] > shape[0] or window[1] > shape[1]):
            raise UserError(
                f"transforms.crop_size={list(self.size)} at its scale needs {window[1]}x{window[0]} pixels but an image"
                f" is {shape[1]}x{shape[0]} (width x height); lower crop_size, raise scale, or set transforms.pad=true"
            )
        focus = data.get("focus") or (None, None)
        drawn = (0, 0, *window)
        for _ in range(_CROP_TRIES):
            y, x = (self._draw(*sides) for sides in zip(window, shape, focus, strict=True))
            drawn = (y, x, *window)
            if self.max_class_share == 1 or "mask" not in data or self._mixed(_cut(data["mask"], drawn)):
                break
        return {"window": drawn}

    def _window_size(self, height: int, width: int) -> tuple[int, int]:
        """Pixels of the source that become the crop."""
        edges = ((self.long_edge, max(height, width)), (self.short_side, min(height, width)))
        factor = min((wanted / given for wanted, given in edges if wanted is not None), default=1.0)
        is_range = len(self.scale) == 2
        factor *= self.py_random.uniform(*self.scale) if is_range else self.py_random.choice(self.scale)
        stretch = sqrt(self.py_random.uniform(*self.aspect))
        return max(1, round(self.size[0] * stretch / factor)), max(1, round(self.size[1] / stretch / factor))

    def largest_window(self) -> tuple[int, int] | None:
        """Height and width of source pixels that a draw may need at most; ``None`` where any size will do.

        Where ``long_edge`` or ``short_side`` scale images first this is not one size for all, and ``None``, too.
        """
        if self.pad or self.long_edge is not None or self.short_side is not None:
            return None
        (height, width), (narrowest, widest), factor = self.size, self.aspect, min(self.scale)
        return max(1, round(height * sqrt(widest) / factor)), max(1, round(width * (1 / sqrt(narrowest)) / factor))

    def _draw(self, window: int, side: int, focus: int | None) -> int:
        slack = side - window  # negative: the window overhangs the image by that much, which padding fills
        if focus is None or slack <= 0:
            return self.py_random.randint(min(0, slack), max(0, slack))
        return min(max(0, self.py_random.randint(focus - window + 1, focus)), slack)

    def _mixed(self, label: np.ndarray) -> bool:
        counts = np.bincount(label.ravel(), minlength=256)[:IGNORE_INDEX]
        return counts.max() < self.max_class_share * max(1, counts.sum())

    def apply(self, img: np.ndarray, window: Window, **params: Any) -> np.ndarray:
        shrinking = window[2] * window[3] > self.output_size[0] * self.output_size[1]
        return self._show(img, window, cv2.INTER_AREA if shrinking else _ENLARGING[self.interpolation], self.fill)

    def apply_to_mask(self, mask: np.ndarray, window: Window, **params: Any) -> np.ndarray:
        return self._show(mask, window, cv2.INTER_NEAREST_EXACT, IGNORE_INDEX)

    def _show(
        self, array: np.ndarray, window: Window, interpolation: int, fill: float | tuple[float, ...]
    ) -> np.ndarray:
        """Cut, resize, and place on a canvas of fill if the window overhangs the image."""
        (y, x, window_height, window_width), (height, width) = window, self.output_size
        cut = _cut(array, window)
        fy, fx = height / window_height, width / window_width
        top, left = round(max(0, -y) * fy), round(max(0, -x) * fx)
        bottom = height if y + window_height <= array.shape[0] else round((array.shape[0] - y) * fy)
        right = width if x + window_width <= array.shape[1] else round((array.shape[1] - x) * fx)
        shape = (max(1, right - left), max(1, bottom - top))
        resized = cut if cut.shape[1::-1] == shape else cv2.resize(cut, shape, interpolation=interpolation)
        if shape == (width, height):
            return resized
        canvas = np.empty((height, width, *array.shape[2:]), array.dtype)
        canvas[:] = fill
        canvas[top : top + shape[1], left : left + shape[0]] = resized
        return canvas


def _cut(array: np.ndarray, window: Window) -> np.ndarray:
    y, x, height, width = window
    return array[max(0, y) : y + height, max(0, x) : x + width]
