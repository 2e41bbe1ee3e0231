"""SharedMeans: means over processes of values that have names, in one exchange."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["SharedMeans"]


class SharedMeans:
    """The mean of each name over the processes that have it; they need not have the same.

    All agree on the names in the first call and in each that renews. So a call is one exchange of a known size, which
    does not wait for the device, unless this process lacks a name. A name that first comes up in between is given as
    this process has it, until the next call that renews.
    """

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}
        self._agreed: list[str] = []

    def __call__(self, values: Mapping[str, Tensor], *, renew: bool) -> dict[str, Tensor]:
        """Each () float32 on the device of the values, of which there is one or more; all processes call it alike."""
        own = {name: value.detach().float() for name, value in values.items()}
        self._seen.update(dict.fromkeys(own))
        if renew or not self._agreed:
            self._agreed = _all_names(self._seen)
        some = next(iter(own.values()))
        zero, one = torch.zeros_like(some), torch.ones_like(some)
        has = torch.stack([one if name in own else zero for name in self._agreed])
        table = torch.stack([torch.stack([own.get(name, zero) for name in self._agreed]), has])
        dist.all_reduce(table)
        means = zip(self._agreed, table[0] / table[1], table[1], strict=True)
        return own | {name: mean for name, mean, count in means if name in own or count > 0}


def _all_names(names: Mapping[str, None]) -> list[str]:
    found: list[list[str]] = [[]] * dist.get_world_size()
    dist.all_gather_object(found, list(names))
    return sorted(set().union(*found))
