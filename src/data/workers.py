"""How many processes and threads may read data, and which of them show a progress bar."""

from __future__ import annotations

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ..runtime.cores import available_cores

__all__ = ["available_workers", "is_first_process", "no_bar", "reading_threads"]


def available_workers() -> int:
    """Loading processes for one device: all cores up to 8 beside a GPU; without one the net needs the cores itself."""
    cores = available_cores()
    return min(8, cores) if torch.cuda.is_available() else max(1, min(4, cores // 2))


def reading_threads() -> int:
    """Threads that read files once through."""
    return min(16, available_cores())


def is_first_process() -> bool:
    """Whether this is the process of a run that speaks for all."""
    return rank_zero_only.rank == 0  # pyrefly: ignore[missing-attribute]  # Lightning sets it on the function


def no_bar() -> bool | None:
    """What tqdm calls ``disable``: no bar in further processes; in the first (``None``) one where a terminal is."""
    return None if is_first_process() else True
