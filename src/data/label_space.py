"""LabelSpace: which classes exist, how label files spell them, and which colours show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np

from ..errors import UserError

__all__ = ["IGNORE_INDEX", "LabelSpace", "distinct_colors"]

IGNORE_INDEX = 255
"""The train id of pixels that count neither in training nor in a score."""
_UNKNOWN = 254  # look-up value of a stored value that the map does not name; hence at most 254 classes


@dataclass(frozen=True)
class LabelSpace:
    """Classes of a data set in train-id order and the rule that turns label files into train ids.

    Args:
        names: class names; the position is the train id.
        colors: one RGB triple (0..255) per class, for pictures and, with ``encoding="color"``, for reading.
        file_values: stored value -> train id or 255 for ``encoding="index"``; ``None`` is 0..K-1 and 255 as they are.
        file_colors: RGB triple -> train id or 255 for ``encoding="color"``; ``None`` takes ``colors``.
        encoding: ``"index"`` for single-channel files (grey or palette PNG), ``"color"`` for RGB files.
        ignore_unknown: read values and colours that no map names as 255 instead of raising.
        categories: the category of each class, for the IoU of categories; ``None`` where there are none.

    Raises:
        UserError: for no, too many (> 253) or duplicate classes, and for colours, maps or categories that do not fit.
    """

    names: Sequence[str]
    colors: Sequence[Sequence[int]]
    file_values: Mapping[int, int] | None = None
    file_colors: Mapping[tuple[int, int, int], int] | None = field(default=None, repr=False)
    encoding: Literal["index", "color"] = "index"
    ignore_unknown: bool = False
    categories: Sequence[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "colors", tuple(tuple(int(v) for v in color) for color in self.colors))
        if not 1 <= len(self.names) < _UNKNOWN:
            raise UserError(f"a label space needs 1 to {_UNKNOWN - 1} classes, got {len(self.names)}")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise UserError(f"class names occur twice: {', '.join(twice)}; give every class its own name")
        if len(self.colors) != len(self.names):
            raise UserError(f"{len(self.names)} classes but {len(self.colors)} colours; give one RGB triple per class")
        if self.categories is not None and len(self.categories) != len(self.names):
            raise UserError(f"{len(self.names)} classes but {len(self.categories)} categories; give one for each class")
        if self.encoding not in ("index", "color"):
            raise UserError(f"label encoding '{self.encoding}' is unknown; use 'index' or 'color'")
        for stored, train_id in [*(self.file_values or {}).items(), *(self.file_colors or {}).items()]:
            if train_id != IGNORE_INDEX and not 0 <= train_id < len(self.names):
                raise UserError(
                    f"label value {stored} is mapped to class {train_id}, but classes are 0..{len(self.names) - 1}"
                    f" (and {IGNORE_INDEX} for ignore); correct the map"
                )

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @cached_property
    def palette(self) -> np.ndarray:
        """(256, 3) uint8 RGB look-up table from train id to colour; ids past the classes and ignore are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: self.num_classes] = self.colors
        return table

    @cached_property
    def _value_table(self) -> np.ndarray:
        values = self.file_values
        if values is None:
            values = {**{i: i for i in range(self.num_classes)}, IGNORE_INDEX: IGNORE_INDEX}
        table = np.full(256, IGNORE_INDEX if self.ignore_unknown else _UNKNOWN, np.uint8)
        for stored, train_id in values.items():
            if 0 <= stored < 256:  # Cityscapes lists -1 (licence plate), which no PNG can hold
                table[stored] = train_id
        return table

    @cached_property
    def _color_table(self) -> tuple[np.ndarray, np.ndarray]:
        colors = self.file_colors
        if colors is None:
            colors = {color: i for i, color in enumerate(self.colors)} | {(0, 0, 0): IGNORE_INDEX}
            colors |= {color: i for i, color in enumerate(self.colors)}  # a class may itself be black
        packed = np.array([(r << 16) | (g << 8) | b for r, g, b in colors], np.int32)
        order = np.argsort(packed)
        return packed[order], np.array(list(colors.values()), np.uint8)[order]

    def encode(self, stored: np.ndarray, where: object) -> np.ndarray:
        """Stored label -> train ids.

        Args:
            stored: (H,W) uint8 for ``encoding="index"``, (H,W,3) uint8 RGB for ``"color"``.
            where: path named in the error.

        Returns:
            (H,W) uint8 train ids, 255 = ignore.

        Raises:
            UserError: naming the file and the first value or colour that the map does not know.
        """
        if self.encoding == "color":
            return self._encode_colors(stored, where)
        label = cv2.LUT(stored, self._value_table)
        if (label == _UNKNOWN).any():
            unknown = np.unique(stored[label == _UNKNOWN])
            share = 100 * float((label == _UNKNOWN).mean())
            raise UserError(
                f"{where}: label value {', '.join(map(str, unknown[:8]))} ({share:.3g} % of its pixels) is not in the"
                f" label map of {self.num_classes} classes; with data=folder map it in data.file_values to a"
                " class or to"
                f" {IGNORE_INDEX} (ignore), or correct the class list"
            )
        return label

    def _encode_colors(self, stored: np.ndarray, where: object) -> np.ndarray:
        channels = stored.astype(np.int32)
        packed = (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
        known, train_ids = self._color_table
        position = np.minimum(np.searchsorted(known, packed), len(known) - 1)
        bad = known[position] != packed
        if bad.any() and self.ignore_unknown:
            return np.where(bad, np.uint8(IGNORE_INDEX), train_ids[position])
        if bad.any():
            colors = [f"({v >> 16}, {v >> 8 & 255}, {v & 255})" for v in np.unique(packed[bad])[:4]]
            raise UserError(
                f"{where}: colour {', '.join(colors)} ({100 * float(bad.mean()):.3g} % of its pixels) belongs to no"
                " class; add it to data.file_colors, or save masks without smoothing (nearest neighbour, no JPEG)"
            )
        return train_ids[position]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for a checkpoint; ``LabelSpace(**d)`` of the result shows and scores alike."""
        return {"names": list(self.names), "colors": [list(color) for color in self.colors]}


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """``count`` RGB colours from the PASCAL VOC bit rule, without its leading black."""
    colors = []
    for index in range(1, count + 1):
        r = g = b = 0
        for bit in range(8):
            r |= (index >> (3 * bit) & 1) << (7 - bit)
            g |= (index >> (3 * bit + 1) & 1) << (7 - bit)
            b |= (index >> (3 * bit + 2) & 1) << (7 - bit)
        colors.append((r, g, b))
    return colors
