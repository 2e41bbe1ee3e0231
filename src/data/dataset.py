"""From two files to one sample: the source protocol, sources on disk, and the torch data set around any source."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from src.data.decoding import decode_image, image_size, read_image, read_label
from src.data.label_space import IGNORE_INDEX, LabelSpace
from src.data.pairs import Pair, Pairs
from src.errors import UserError

__all__ = [
    "FileSource",
    "Pair",
    "SampleKey",
    "SegmentationDataset",
    "Source",
    "decode_image",
    "image_size",
    "read_image",
    "read_label",
]


class SampleKey(NamedTuple):
    """What a sampler asks for: which sample, the seed of its augmentation, and a point that its crop shall show.

    ``focus`` is (row, column) in pixels of the source image, or ``None`` for any crop.
    """

    index: int
    seed: int
    focus: tuple[int, int] | None = None


class Source(Protocol):
    """Raw samples in a fixed order: ``read(i)`` gives image (H,W,3) uint8 RGB and label (H,W) uint8 train ids.

    ``label`` is ``None`` where there is none; 255 is ignore. ``name(i)`` and ``size(i)``, the image's height and width,
    cost no decoding.
    """

    label_space: LabelSpace

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def size(self, index: int) -> tuple[int, int]: ...

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]: ...


class FileSource:
    """A source over image and label files.

    Args:
        pairs: what to read, in order.
        label_space: turns stored labels into train ids.
        unmatched: label files that no image claims; the audit reports them.
        left_out: images that are not read, as they have no label; the audit reports them, too.
        min_confidence: where a pair has a map of confidence, labels below this probability are ignored; ``None``: none.

    Raises:
        UserError: for a confidence outside (0, 1]; on reading a missing or broken file, a label or map of another size,
            or an unknown label value.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_space: LabelSpace,
        *,
        unmatched: Sequence[Path] = (),
        left_out: Sequence[Path] = (),
        min_confidence: float | None = None,
    ) -> None:
        if min_confidence is not None and not 0 < min_confidence <= 1:
            raise UserError(f"data.min_confidence={min_confidence} must lie in (0, 1]; null keeps every label")
        self.pairs: Sequence[Pair] = Pairs(pairs)
        self.label_space = label_space
        self.unmatched = tuple(unmatched)
        self.left_out = tuple(map(str, left_out))
        self.min_confidence = min_confidence

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def size(self, index: int) -> tuple[int, int]:
        return image_size(self.pairs[index].image)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        image, stored = self.read_stored(index)
        return image, None if stored is None else self._encoded(index, stored)

    def read_label(self, index: int) -> np.ndarray | None:
        """The label of ``read`` alone, at the cost of its own file; its size is not compared with the image's."""
        path = self.pairs[index].label
        return None if path is None else self._encoded(index, read_label(path, self.label_space.encoding))

    def _encoded(self, index: int, stored: np.ndarray) -> np.ndarray:
        pair = self.pairs[index]
        label = self.label_space.encode(stored, pair.label)
        if pair.confidence is not None and self.min_confidence is not None:
            label[self._confidence(pair.confidence, label.shape) < 255 * self.min_confidence] = IGNORE_INDEX
        return label

    def _confidence(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """(H,W) uint8."""
        confidence = read_label(path)
        if confidence.shape != shape:
            raise UserError(
                f"{path}: map of confidence is {confidence.shape[1]}x{confidence.shape[0]} but its label is"
                f" {shape[1]}x{shape[0]} (width x height); write both anew with src.autolabel"
            )
        return confidence

    def read_stored(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """As ``read``, but the label as the file holds it: (H,W) uint8 values, or (H,W,3) uint8 RGB colours."""
        pair = self.pairs[index]
        image = read_image(pair.image)
        if pair.label is None:
            return image, None
        stored = read_label(pair.label, self.label_space.encoding)
        if stored.shape[:2] != image.shape[:2]:
            raise UserError(
                f"{pair.label}: label is {stored.shape[1]}x{stored.shape[0]} but its image {pair.image} is"
                f" {image.shape[1]}x{image.shape[0]} (width x height); export the mask at the image's size"
                " (a swap of both is an EXIF rotation stored in one file only)"
            )
        return image, stored


class SegmentationDataset(Dataset):
    """A source with a transform; yields the sample dict of ``src.data``.

    Args:
        source: raw samples.
        transform: albumentations pipeline over ``image`` and ``mask``, or ``None``. It is seeded per sample from the
            key, so that a sample depends on nothing but its key: neither on the worker nor on what came before.
    """

    def __init__(self, source: Source, transform: Any | None = None) -> None:
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        index, seed, focus = key if isinstance(key, tuple) else SampleKey(key, 0)
        image, label = self.source.read(index)
        if self.transform is not None:
            # One stream for all its steps. set_random_seed would start each step with the same number, so that, say,
            # only small scales were ever flipped.
            self.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            given = {"image": image, "focus": focus} | ({} if label is None else {"mask": label})
            out = self.transform(**given)
            image, label = out["image"], out.get("mask")
        sample = {"image": _chw(image), "name": self.source.name(index)}
        if label is not None:
            sample["label"] = torch.from_numpy(np.ascontiguousarray(label))
        return sample


def _chw(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # a view: channels last in memory
