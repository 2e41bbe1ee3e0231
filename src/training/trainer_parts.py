"""What Lightning sets on a trainer at run time, which its type hints leave out; and what all devices have."""

from __future__ import annotations

from typing import TypeVar

import pytorch_lightning as pl
import torch.distributed as dist

from ..data import SegmentationDataModule

__all__ = ["at_log_step", "callbacks_of", "datamodule_of", "gathered"]

C = TypeVar("C", bound=pl.Callback)
T = TypeVar("T")


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """The callbacks of one class, in the order of the trainer's list."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # pyrefly: ignore[missing-attribute]


def datamodule_of(trainer: pl.Trainer) -> SegmentationDataModule:
    """The data of a fit."""
    return trainer.datamodule  # pyrefly: ignore[missing-attribute]


def at_log_step(trainer: pl.Trainer) -> bool:
    """Whether the loggers get the scalars of this optimiser step."""
    return trainer.global_step % trainer.log_every_n_steps == 0  # pyrefly: ignore[missing-attribute]


def gathered(own: T) -> list[T]:
    """The object of every device, in the order of ranks; all of them have to ask."""
    if not dist.is_initialized():
        return [own]
    found: list[T] = [own] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return found
