"""Images to try a net on: those it was validated with, where they are at hand, or generated streets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..build import allowed
from ..build.config_values import as_plain
from ..build.from_checkpoint import saved_config
from ..build.instantiate import instantiate
from ..build.saved_config import LEFT
from ..data.decoding import read_image
from ..data.sets.toy_streets import ToyStreets
from ..errors import UserError
from ..files.images import find_images

__all__ = ["generated", "images_at_hand"]


def images_at_hand(ckpt: str | Path, *, source: str | None, count: int) -> tuple[str, list[np.ndarray]]:
    """Images of ``source``, or of the validation data of a checkpoint, in words and as (H,W,3) uint8 RGB.

    Args:
        ckpt: checkpoint or bundle.
        source: image, folder or pattern; ``None`` for the checkpoint's data.
        count: how many at most.

    Returns:
        What they are, and the images: none if the data lie elsewhere, or nowhere.

    Raises:
        UserError: if ``source`` holds no images.
    """
    if source is not None:
        paths = find_images(source)[1][:count]
        return _said(len(paths), f"image* of {source}"), [read_image(path) for path in paths]
    data = saved_config(ckpt).data
    try:
        if LEFT in str(as_plain(data, resolve=False)):  # a root that the command line has to give
            return "", []
        dataset = instantiate(data.dataset, allowed.DATA)(split=data.splits["val"][0])
        images = [dataset.read(index)[0] for index in range(min(count, len(dataset)))]
    except (UserError, OSError, AttributeError, LookupError, TypeError, ValueError):
        return "", []
    return _said(len(images), f"validation image* of {data.name}"), images


def _said(count: int, what: str) -> str:
    return f"{count} {what.replace('*', '' if count == 1 else 's', 1)}"


def generated(count: int) -> tuple[str, list[np.ndarray]]:
    """As ``images_at_hand``, street scenes of 512x256 that are always the same."""
    source = ToyStreets(split="val", length=count, height=256, width=512)
    return _said(count, "generated street*"), [source.read(index)[0] for index in range(count)]
