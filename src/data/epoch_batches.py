"""Batches of a rank: a stream that is a pure function of seed, epoch and batch, so that it can be resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader, default_collate

from ..errors import UserError
from .dataset import SampleKey
from .sampling.samplers import Draw

__all__ = ["EpochBatches", "ResumableLoader", "check_same", "collate", "shard"]


def shard(count: int, rank: int, world_size: int) -> range:
    """Indices of one rank, without the repeated samples that would be counted twice in a score."""
    return range(rank, count, world_size)


class EpochBatches:
    """Batches of one rank in epoch ``epoch``, from batch ``start`` on; incomplete batches are dropped.

    Every rank draws the same epoch and takes its own part of every global batch. Each key carries the seed of its
    augmentation, which depends on (seed, epoch, place in the epoch) alone.

    Args:
        draw: gives an epoch, of ``count`` entries.
        count: samples an epoch.
        batch_size: samples per rank and batch.
        seed: of order and augmentation.
        rank, world_size: which part of each global batch.
    """

    def __init__(
        self, draw: Draw, count: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.draw = draw
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.count // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        yield from self.of(self.epoch, range(self.start, len(self)))

    def of(self, epoch: int, batches: Iterable[int]) -> Iterator[list[SampleKey]]:
        """Those of any epoch, by their places in it."""
        # Every rank draws the whole epoch from the same generator, so the parts of all ranks make it up exactly, and
        # whatever the number of ranks or the batch that is resumed at, a place in the epoch keeps its image and seed.
        generator = np.random.default_rng([self.seed, epoch])
        entries = self.draw(generator, epoch)
        seeds = generator.integers(0, 2**31 - 1, self.count)
        for batch in batches:
            begin = (batch * self.world_size + self.rank) * self.batch_size
            places = range(begin, begin + self.batch_size)
            yield [_key(entries[place].tolist(), int(seeds[place])) for place in places]


class ResumableLoader(DataLoader):
    """A DataLoader over ``EpochBatches`` that knows which batch it handed out last.

    Each pass over it is the next epoch. ``state_dict`` says how many batches of which epoch were handed out (batches
    that workers hold ready do not count), and the first pass after ``load_state_dict`` resumes behind them. The number
    of workers does not matter, nor that of ranks as long as a step has as many images in all.

    Args:
        dataset, options: see ``DataLoader``.
        batches: what to load.
        per_epoch: batches after which an epoch ends, where a run is told to use only a part.
    """

    def __init__(self, dataset: Any, batches: EpochBatches, *, per_epoch: int, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self._batches = batches
        self._per_epoch = per_epoch
        self._handed_out = 0
        self._resumed = False

    def __iter__(self) -> Iterator[Any]:  # pyrefly: ignore[bad-override]  # a generator can count what it hands out
        # The first pass after a resume is the rest of the epoch that was left; any other pass is a new epoch.
        if not self._resumed and self._handed_out:
            self._batches.epoch += 1
            self._handed_out = 0
        self._resumed = False
        self._batches.start = self._handed_out
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        images = self._batches.batch_size * self._batches.world_size
        return {"epoch": self._batches.epoch, "batches": self._handed_out, "images": images}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._batches.epoch = state["epoch"]
        self._handed_out = state["batches"]
        # A checkpoint at an epoch's end leaves nothing to resume: the next pass begins the next epoch.
        self._resumed = state["batches"] < self._per_epoch
        size, ranks = self._batches.batch_size, self._batches.world_size
        whole = state.get("images", size * ranks)
        if self._resumed and whole != size * ranks:
            raise UserError(
                f"data.batch_size={size} on {ranks} device(s) is another total than the {whole} images of the steps"
                f" before, and the run stopped within an epoch; set data.batch_size={max(1, whole // ranks)} or use as"
                " many devices as before"
            )


def check_same(position: Mapping[str, int] | None) -> None:
    """All processes must resume from one place (``ResumableLoader.state_dict``), else they would wait for each other.

    Raises:
        UserError: on every process, if they do not.
    """
    if not dist.is_initialized():
        return
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, position)
    other = [rank for rank, place in enumerate(found) if place != found[0]]
    if other:
        raise UserError(
            f"process {other[0]} would resume from another place ({_place(found[other[0]])}) than the first"
            f" ({_place(found[0])}); all nodes must see one run folder (hydra.run.dir=) on a file system they share"
        )


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Samples -> batch: ``image`` (B,3,H,W) uint8 stored channels last, ``label`` (B,H,W) uint8, ``name`` list.

    Raises:
        UserError: when sizes differ, naming two samples.
    """
    first = samples[0]
    for sample in samples[1:]:
        if sample["image"].shape != first["image"].shape:
            raise UserError(
                f"{first['name']} is {_size(first)} and {sample['name']} is {_size(sample)} (width x height), which"
                " cannot be one batch; set data.eval_batch_size=1, or for training transforms=street with a crop_size"
            )
    # The library's collate stacks straight into the memory that a worker shares with the training process.
    images = default_collate([sample["image"].permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    batch = {"image": images, "name": [sample["name"] for sample in samples]}
    if all("label" in sample for sample in samples):
        batch["label"] = default_collate([sample["label"] for sample in samples])
    return batch


def _place(position: Mapping[str, int] | None) -> str:
    return f"epoch {position['epoch']}, batch {position['batches']}" if position else "the start"


def _size(sample: Mapping[str, Any]) -> str:
    return f"{sample['image'].shape[2]}x{sample['image'].shape[1]}"


def _key(entry: Sequence[int], seed: int) -> SampleKey:
    index, row, column = entry
    return SampleKey(index, seed, None if row < 0 else (row, column))
