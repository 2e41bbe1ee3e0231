"""Augmentation pipelines: uint8 in, uint8 out. Evaluation needs none: nets take any size, and so do scores."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan, degrees
from typing import Annotated, Any, Literal

import albumentations as A
import cv2
import numpy as np
from annotated_types import Interval, Len, Predicate

from ...errors import UserError
from ...schema.faults import checked
from ...schema.types import Angle, Colour, Count, Fraction, Range, Scales, Share, Size, Statistics, Words
from ..label_space import IGNORE_INDEX
from .random_crop import RandomScaleCrop

__all__ = ["STEPS", "eval_transform", "train_transform"]

STEPS = (A.BasicTransform, A.BaseCompose)
"""What a step of a pipeline is."""

Width = Annotated[float, Interval(ge=0, le=255)]
Operations = Annotated[
    Sequence[Annotated[int | float, Interval(ge=0, le=30)]],
    Len(2, 2),
    Predicate(lambda pair: isinstance(pair[0], int) and pair[0] >= 1),
    Words("[N, M]: N operations (1 or more) of strength M (0 to 30)"),
]


@checked("transforms")
def train_transform(
    *,
    crop_size: Size,
    scale: Scales,
    mean: Statistics,
    output_size: Size | None = None,
    aspect: Range = (1.0, 1.0),
    long_edge: Count | None = None,
    short_side: Count | None = None,
    pad: bool = True,
    fill: Colour | None = None,
    interpolation: Literal["linear", "cubic"] = "linear",
    max_class_share: Fraction = 1.0,
    flip: Share = 0.5,
    rand_augment: Operations | None = None,
    brightness: Width = 0.0,
    contrast: Width = 0.0,
    saturation: Width = 0.0,
    hue: Angle = 0.0,
    brightness_shift: Width = 0.0,
    blur: Share = 0.0,
    blur_sigma: Range = (0.15, 1.3),
    extra: Sequence[A.BasicTransform | A.BaseCompose] = (),
) -> A.Compose:
    """The training pipeline over ``image`` (H,W,3 uint8), ``mask`` (H,W uint8) and ``focus``, in the arguments' order.

    Args:
        crop_size: (height, width) of the crop.
        scale, output_size, aspect, long_edge, short_side, interpolation, max_class_share: see ``RandomScaleCrop``.
        mean: RGB mean, 0..1, of the data.
        pad: pad images smaller than the crop (image with ``fill``, label with ignore) instead of failing.
        fill: RGB (0..255) of padding; ``None`` is ``mean``.
        flip: probability of a horizontal flip.
        rand_augment: number of operations and their strength of 0 to 30, see ``random_operations``.
        brightness, contrast, saturation, hue: half-widths of the jitter range around no change (hue in turns, <= 0.5);
            the four come in random order.
        brightness_shift: levels (of 255) up to which all channels are raised or lowered together.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its standard deviation in pixels.
        extra: further albumentations transforms, applied last; labels that they uncover, whatever their ``fill_mask``
            says, are ignored.

    Raises:
        UserError: for a scale, size, colour, share, number of operations or further transform that cannot be.
    """
    fill = [round(255 * value) for value in mean] if fill is None else list(fill)
    crop = RandomScaleCrop(
        crop_size,
        scale,
        output_size=output_size,
        aspect=aspect,
        long_edge=long_edge,
        short_side=short_side,
        pad=pad,
        fill=fill,
        interpolation=interpolation,
        max_class_share=max_class_share,
    )
    steps: list[Any] = [crop]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if rand_augment is not None:
        steps.append(random_operations(int(rand_augment[0]), rand_augment[1], fill=fill))
    if brightness or contrast or saturation or hue:
        steps.append(_jitter(brightness, contrast, saturation, hue))
    if brightness_shift:
        steps.append(A.RandomBrightnessContrast(brightness_shift / 255, 0.0, p=1.0))
    if blur:
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=(blur_sigma[0], blur_sigma[1]), p=blur))
    _check_extra(extra, crop.output_size)
    return A.Compose([*steps, *extra])


def random_operations(count: int, strength: float, *, fill: Sequence[int]) -> A.RandomOrder:
    """RandAugment (Cubuk et al. 2020, arXiv 1909.13719) over image and label.

    The paper's operations, the ranges of public code, drawn with replacement. Where the paper always takes the given
    strength, each draw here is uniform up to it.

    Args:
        count: N, operations per image.
        strength: M, 0 (as little as there is) to 30.
        fill: RGB (0..255) of what geometric operations uncover; there the label is ignored.
    """
    share = strength / 30
    shear, shift = degrees(atan(0.3 * share)), 0.33 * share
    still = {"x": (0.0, 0.0), "y": (0.0, 0.0)}  # the library shears an axis that is not named by one degree
    geometric: list[dict[str, Any]] = [{"shear": {**still, axis: (-shear, shear)}} for axis in "xy"]
    geometric += [{"translate_percent": {**still, axis: (-shift, shift)}} for axis in "xy"]
    geometric += [{"rotate": (-30 * share, 30 * share)}]
    colours = [[0.9 * share if i == j else 0.0 for j in range(4)] for i in range(3)]
    return A.RandomOrder(
        [
            A.NoOp(p=1.0),
            *(A.Affine(**options, fill=tuple(fill), fill_mask=IGNORE_INDEX, p=1.0) for options in geometric),
            *(_jitter(*widths) for widths in colours),
            A.Sharpen(alpha=(0.0, 0.9 * share), lightness=(1.0, 1.0), p=1.0),
            A.AutoContrast(p=1.0),
            A.Equalize(p=1.0),
            A.Posterize(num_bits=(8 - round(4 * share), 8), p=1.0),
            A.Solarize(threshold_range=(1 - share, 1.0), p=1.0),
        ],
        n=count,
        replace=True,
    )


@checked("data")
def eval_transform(eval_long_edge: Count) -> A.Compose:
    """Image and label at another size, for protocols that score there (Mapillary in arXiv 2005.10821).

    Args:
        eval_long_edge: length of the longer side in pixels.

    Raises:
        UserError: for a length below 1.
    """
    nearest = cv2.INTER_NEAREST_EXACT
    return A.Compose([A.LongestMaxSize(eval_long_edge, mask_interpolation=nearest, area_for_downscale="image")])


def _jitter(brightness: float, contrast: float, saturation: float, hue: float) -> A.ColorJitter:
    widths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    ranges = {name: (max(0.0, 1 - width), 1 + width) for name, width in widths.items()}
    return A.ColorJitter(**ranges, hue=(-hue, hue), p=1.0)


def _check_extra(extra: Sequence[Any], size: Sequence[int]) -> None:
    """Tries each further transform on a grey crop, and has it ignore labels where it shows what lies beyond one."""
    for step in extra:
        if not isinstance(step, STEPS):
            raise UserError(f"transforms.extra: {step} must be like {{_target_: albumentations.Rotate, limit: 10}}")
        if isinstance(step, A.BaseCompose):
            _check_extra(step.transforms, size)
            continue
        if getattr(step, "fill_mask", None) is not None:  # some of the library's steps have it, without a common class
            step.fill_mask = IGNORE_INDEX  # its default, 0, is a class
        name, grey = type(step).__name__, np.full((*size, 3), 128, np.uint8)
        try:
            image = step(image=grey, mask=np.zeros(size, np.uint8), force_apply=True)["image"]
        except Exception as error:  # whatever a step of any kind raises
            raise UserError(
                f"transforms.extra: {name} fails on a crop of {size[0]}x{size[1]} ({error}); correct its options,"
                " or leave it out"
            ) from error
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
            raise UserError(
                f"transforms.extra: {name} must be left out: images stay (H,W,3) uint8 until they are normed"
            )
