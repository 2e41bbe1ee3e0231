"""Toy streets: generated street scenes with exact labels, so that everything runs before any data is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal, get_args

import numpy as np

from ...errors import UserError
from ...schema.faults import checked
from ...schema.types import Seed, Size, Whole
from ..label_space import LabelSpace
from ..source import Source
from .camvid import CLASSES
from .pair_by_stem import check_split
from .toy.painter import render
from .toy.street import street

__all__ = ["ToyStreets", "toy_streets"]

Split = Literal["train", "val", "test"]


class ToyStreets(Source):
    """A source of generated street scenes in CamVid's eleven classes; rendered on the fly, nothing is stored.

    A scene depends on nothing but ``(seed, split, index)`` and is the same street at every size.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``; they share no scene.
        length: number of scenes.
        height: rows, at least 32.
        width: columns, at least 32.
        seed: another seed is another city.

    Raises:
        UserError: for an unknown split, a size below 32, no scenes, or a negative seed.
    """

    label_space = LabelSpace(names=tuple(CLASSES), colors=tuple(CLASSES.values()))

    def __init__(self, *, split: Split, length: int, height: int = 128, width: int = 256, seed: int = 0) -> None:
        check_split("toy_streets", split, get_args(Split))
        if length < 1:
            raise UserError(f"toy streets of length {length} hold no scene; use 1 or more")
        if min(height, width) < 32:
            raise UserError(f"toy streets of {height}x{width} (height x width) are too small; use 32 or more for both")
        if seed < 0:
            raise UserError(f"toy streets cannot be seeded with {seed}; use 0 or more")
        self.split, self.length, self.height, self.width, self.seed = split, length, height, width, seed

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """Like ``train_000012``."""
        return f"{self.split}_{index:06d}"

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One scene.

        Returns:
            image (H,W,3) uint8 RGB and label (H,W) uint8: 0..10, or 255 on the observer's bonnet and on litter bins.

        Raises:
            IndexError: for an index outside 0..length-1.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = np.random.Generator(np.random.PCG64([self.seed, get_args(Split).index(self.split), index]))
        scene = street(Random(int(rng.integers(2**62))))
        return render(scene, height=self.height, width=self.width, rng=rng)


@checked("data")
def toy_streets(*, split: Split, size: Size, length: Mapping[str, Whole], seed: Seed = 0) -> ToyStreets:
    """The source of a split.

    Args:
        split, seed: see ``ToyStreets``.
        size: (height, width) of the scenes.
        length: split -> number of scenes.

    Raises:
        UserError: as ``ToyStreets``.
    """
    return ToyStreets(split=split, length=length.get(split, 0), height=size[0], width=size[1], seed=seed)
