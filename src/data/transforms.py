"""Training augmentation: uint8 in, uint8 out, and no pixel is resized that the crop throws away.

Random scale and random crop are one step here: the window that the crop would show is cut from the source first, then
only that window is resized. Evaluation needs no transform: nets take any size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version

import albumentations as A
import cv2
import numpy as np

from src.data.label_space import IGNORE_INDEX
from src.errors import UserError

__all__ = ["RandomScaleCrop", "train_transform"]

_CROP_TRIES = 10


class RandomScaleCrop(A.DualTransform):
    """Scale by a random factor and crop a random window, reading only the pixels that the window shows.

    Args:
        size: (height, width) of the result.
        scale: two numbers are the range of a uniform factor, any other count is a list to choose from.
        pad: fill where the scaled image is smaller than ``size``; otherwise that is an error.
        fill: RGB (0..255) for padded image pixels; padded labels are ignored.
        max_class_share: draw the window up to ten times until no class covers more than this share of its valid
            pixels; 1 switches it off.

    Raises:
        UserError: at construction for impossible values; on a too small image when ``pad`` is off.
    """

    def __init__(
        self,
        size: Sequence[int],
        scale: Sequence[float] = (0.5, 2.0),
        *,
        pad: bool = True,
        fill: Sequence[int] = (0, 0, 0),
        max_class_share: float = 1.0,
    ) -> None:
        super().__init__(p=1.0)
        if len(size) != 2 or min(size) < 1:
            raise UserError(f"transforms.crop_size={list(size)} must be [height, width] in pixels")
        if not scale or min(scale) <= 0:
            raise UserError(f"transforms.scale={list(scale)} must hold positive factors")
        if not 0 < max_class_share <= 1:
            raise UserError(f"transforms.max_class_share={max_class_share} must lie in (0, 1]")
        self.size = tuple(size)
        self.scale = tuple(scale)
        self.pad = pad
        self.fill = tuple(fill)
        self.max_class_share = max_class_share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the source window (y, x, height, width); it may be larger than the image where padding is allowed."""
        height, width = data["image"].shape[:2]
        is_range = len(self.scale) == 2
        factor = self.py_random.uniform(*self.scale) if is_range else self.py_random.choice(self.scale)
        window = tuple(max(1, round(side / factor)) for side in self.size)
        if not self.pad and (window[0] > height or window[1] > width):
            raise UserError(
                f"transforms.crop_size={list(self.size)} at scale {factor:.3g} needs {window[1]}x{window[0]}"
                " pixels but an"
                f" image is {width}x{height} (width x height); lower crop_size, raise scale, or set transforms.pad=true"
            )
        for _ in range(_CROP_TRIES):
            y, x = (self._draw(window[0], height), self._draw(window[1], width))
            if self.max_class_share == 1 or "mask" not in data or self._mixed(_cut(data["mask"], (y, x, *window))):
                break
        return {"window": (y, x, *window)}

    def _draw(self, window: int, side: int) -> int:
        slack = side - window  # negative: the window overhangs the image by that much, which padding fills
        return self.py_random.randint(min(0, slack), max(0, slack))

    def _mixed(self, label: np.ndarray) -> bool:
        counts = np.bincount(label.ravel(), minlength=256)[:IGNORE_INDEX]
        return counts.max() < self.max_class_share * max(1, counts.sum())

    def apply(self, img: np.ndarray, window: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        shrinking = window[2] > self.size[0]
        return self._window(img, window, cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR, self.fill)

    def apply_to_mask(self, mask: np.ndarray, window: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        return self._window(mask, window, cv2.INTER_NEAREST_EXACT, IGNORE_INDEX)

    def _window(
        self, array: np.ndarray, window: tuple[int, int, int, int], interpolation: int, fill: int | tuple[int, ...]
    ) -> np.ndarray:
        """Cut, resize, and place on a canvas of fill if the window overhangs the image."""
        (y, x, window_height, window_width), (height, width) = window, self.size
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


def _cut(array: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    y, x, height, width = window
    return array[max(0, y) : y + height, max(0, x) : x + width]


def train_transform(
    *,
    crop_size: Sequence[int],
    scale: Sequence[float],
    mean: Sequence[float],
    pad: bool = True,
    max_class_share: float = 1.0,
    flip: float = 0.5,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    blur: float = 0.0,
    extra: Sequence[Any] = (),
) -> A.Compose:
    """The training pipeline over ``image`` (H,W,3 uint8) and ``mask`` (H,W uint8).

    Args:
        crop_size: (height, width) the net sees.
        scale: see ``RandomScaleCrop``.
        mean: RGB mean, 0..1; fills padding.
        pad: pad images smaller than the crop (image with ``mean``, label with ignore) instead of failing.
        max_class_share: see ``RandomScaleCrop``.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation, hue: half-widths of the jitter range around no change (hue in turns, <= 0.5).
        blur: probability of a light Gaussian blur.
        extra: further albumentations transforms, applied last.

    Raises:
        UserError: for a scale, crop size or share that cannot be.
    """
    steps: list[Any] = [
        RandomScaleCrop(
            crop_size,
            scale,
            pad=pad,
            fill=[round(255 * value) for value in mean],
            max_class_share=max_class_share,
        )
    ]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if brightness or contrast or saturation or hue:
        jitter = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        ranges = {name: (max(0.0, 1 - width), 1 + width) for name, width in jitter.items()}
        steps.append(A.ColorJitter(**ranges, hue=(-hue, hue), p=1.0))
    if blur:
        steps.append(A.GaussianBlur(blur_limit=(3, 5), p=blur))
    return A.Compose([*steps, *extra])
