"""Which samples a step sees: a stream that is a pure function of seed, epoch and batch, so that it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from src.data.dataset import SampleKey

__all__ = ["ResumableLoader", "ShuffledBatches", "shard"]


def shard(count: int, rank: int, world_size: int) -> range:
    """Indices of one rank, without the repeated samples that would be counted twice in a score."""
    return range(rank, count, world_size)


class ShuffledBatches:
    """Batches of one rank in epoch ``epoch``, from batch ``start`` on; incomplete batches are dropped.

    Every rank draws the same permutation and takes its own part of every global batch. Each key carries the seed of its
    augmentation, which depends on (seed, epoch, place in the permutation) alone.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
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
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.count)
        seeds = generator.integers(0, 2**31 - 1, self.count)
        for batch in range(self.start, len(self)):
            begin = (batch * self.world_size + self.rank) * self.batch_size
            places = range(begin, begin + self.batch_size)
            yield [SampleKey(int(order[place]), int(seeds[place])) for place in places]


class ResumableLoader(DataLoader):
    """A DataLoader over ``ShuffledBatches`` that knows which batch it handed out last.

    Each pass over it is the next epoch. ``state_dict`` says how many batches of which epoch were handed out (batches
    that workers hold ready do not count), and the first pass after ``load_state_dict`` goes on behind them.

    Args:
        dataset, options: see ``DataLoader``.
        batches: what to load.
        per_epoch: batches after which an epoch ends, where a run is told to use only a part.
    """

    def __init__(self, dataset: Any, batches: ShuffledBatches, *, per_epoch: int, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self._per_epoch = per_epoch
        self._handed_out = 0
        self._resumed = False

    def __iter__(self) -> Iterator[Any]:
        if not self._resumed and self._handed_out:
            self.batch_sampler.epoch += 1
            self._handed_out = 0
        self._resumed = False
        self.batch_sampler.start = self._handed_out
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.batch_sampler.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batch_sampler.epoch = state["epoch"]
        self._handed_out = state["batches"]
        self._resumed = state["batches"] < self._per_epoch
