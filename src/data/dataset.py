"""The torch data set around any source: one sample, transformed by the seed of its key."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from .source import Source

__all__ = ["SampleKey", "SegmentationDataset"]


class SampleKey(NamedTuple):
    """What a sampler asks for: which sample, the seed of its augmentation, and a point that its crop shall show.

    ``focus`` is (row, column) in pixels of the source image, or ``None`` for any crop.
    """

    index: int
    seed: int
    focus: tuple[int, int] | None = None


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

    def __getitem__(self, index: int | SampleKey) -> dict[str, Any]:
        index, seed, focus = index if isinstance(index, tuple) else SampleKey(index, 0)
        image, label = self.source.read(index)
        if self.transform is not None:
            # One stream for all its steps. set_random_seed would start each step with the same number, so that, say,
            # only small scales were ever flipped.
            self.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            given = {"image": image, "focus": focus} | ({} if label is None else {"mask": label})
            out = self.transform(**given)
            image, label = out["image"], out.get("mask")
        channels_first = torch.from_numpy(np.ascontiguousarray(image)).permute(
            2, 0, 1
        )  # a view: channels last in memory
        sample = {"image": channels_first, "name": self.source.name(index)}
        if label is not None:
            sample["label"] = torch.from_numpy(np.ascontiguousarray(label))
        return sample
