"""An order in which few shards are read at a time, for shards at an address or on a slow disk."""

from __future__ import annotations

import numpy as np

from src.data.dataset import Source
from src.data.sampling.samplers import Draw, Shuffle
from src.data.shards.source import ShardSource
from src.errors import UserError
from src.schema.faults import checked
from src.schema.types import Count

__all__ = ["ShuffleShards"]


class ShuffleShards(Shuffle):
    """Every image once an epoch: shards in random order, and images shuffled among ``window`` shards at a time.

    The window slides: half of it is read from the start, then one shard after the other joins and one is done with, so
    that they are fetched evenly. Like any sampler's, the order depends on seed and epoch alone, so that a run resumes
    exactly whatever its number of loading processes. All ranks read the same shards at about the same time.

    Args:
        window: shards that are read at a time; all: a full shuffle.

    Raises:
        UserError: for a window below 1; on drawing from other data than shards.
    """

    @checked("sampler")
    def __init__(self, *, window: Count = 16) -> None:
        super().__init__()
        self.window = window

    def draws(self, source: Source, first: int) -> Draw:
        ends = _ends(source)
        count = len(ends) - 1
        images = np.full((len(source), 3), -1, np.int32)
        images[:, 0] = np.arange(len(source))

        def draw(generator: np.random.Generator, epoch: int) -> np.ndarray:
            if self.window >= count:
                return generator.permutation(images)
            place = np.repeat(generator.permutation(count) + 0.5, np.diff(ends))  # of its shard in the epoch
            place += self.window * (generator.random(len(images)) - 0.5)
            place = count - np.abs(count - np.abs(place))  # what falls off at either end is folded back
            return images[np.argsort(place, kind="stable")]

        return draw


def _ends(source: Source) -> np.ndarray:
    """Where the shards of one or several sources in a row begin, and where the last ends."""
    ends = [np.zeros(1, np.int64)]
    for part in getattr(source, "sources", [source]):
        if not isinstance(part, ShardSource):
            raise UserError("sampler=shuffle_shards orders shards only; use sampler=shuffle, or data=shards")
        ends.append(part.shard_ends + ends[-1][-1])
    return np.concatenate(ends)
