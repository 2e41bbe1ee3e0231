"""An order in which few shards are read at a time, for shards at an address or on a slow disk."""

from __future__ import annotations

import numpy as np

from src.data.dataset import Source
from src.data.sampling import Draw, Shuffle
from src.data.shards import ShardSource
from src.errors import UserError

__all__ = ["ShuffleShards"]


class ShuffleShards(Shuffle):
    """Every image once an epoch: shards in random order, and images shuffled among ``window`` shards at a time.

    Like any sampler's, the order depends on seed and epoch alone, so that a run resumes exactly whatever its number of
    loading processes. All ranks read the same shards at about the same time.

    Args:
        window: shards that are shuffled together; the more, the nearer to a full shuffle.

    Raises:
        UserError: for a window below 1; on drawing from other data than shards.
    """

    def __init__(self, *, window: int = 16) -> None:
        super().__init__()
        if not isinstance(window, int) or window < 1:
            raise UserError(f"sampler.window={window} must be a whole number of 1 or more")
        self.window = window

    def draws(self, source: Source, first: int) -> Draw:
        ends = _ends(source)
        images = np.full((len(source), 3), -1, np.int32)
        images[:, 0] = np.arange(len(source))

        def draw(generator: np.random.Generator, epoch: int) -> np.ndarray:
            order = generator.permutation(len(ends) - 1)
            windows = (order[start : start + self.window] for start in range(0, len(order), self.window))
            taken = (np.concatenate([images[ends[k] : ends[k + 1]] for k in window]) for window in windows)
            return np.concatenate([generator.permutation(part) for part in taken])

        return draw


def _ends(source: Source) -> np.ndarray:
    """Where the shards of one or several sources in a row begin, and where the last ends."""
    ends = [np.zeros(1, np.int64)]
    for part in getattr(source, "sources", [source]):
        if not isinstance(part, ShardSource):
            raise UserError("sampler=shuffle_shards orders shards only; use sampler=shuffle, or data=shards")
        ends.append(part.shard_ends + ends[-1][-1])
    return np.concatenate(ends)
