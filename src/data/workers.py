"""How many processes and threads may read data."""

from __future__ import annotations

import os

import torch

__all__ = ["available_cores", "available_workers", "reading_threads"]


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_workers() -> int:
    """Loading processes for one device: all cores up to 8 beside a GPU; without one the net needs the cores itself."""
    cores = available_cores()
    return min(8, cores) if torch.cuda.is_available() else max(1, min(4, cores // 2))


def reading_threads() -> int:
    """Threads that read files once through."""
    return min(16, available_cores())
