"""What Lightning sets on a trainer at run time, so that its type hints leave it out."""

from __future__ import annotations

from typing import TypeVar

import pytorch_lightning as pl

from src.data import SegmentationDataModule

__all__ = ["at_log_step", "callbacks_of", "datamodule_of"]

C = TypeVar("C", bound=pl.Callback)


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """The callbacks of one class, in the order of the trainer's list."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # pyrefly: ignore[missing-attribute]


def datamodule_of(trainer: pl.Trainer) -> SegmentationDataModule:
    """The data of a fit."""
    return trainer.datamodule  # pyrefly: ignore[missing-attribute]


def at_log_step(trainer: pl.Trainer) -> bool:
    """Whether the loggers get the scalars of this optimiser step."""
    return trainer.global_step % trainer.log_every_n_steps == 0  # pyrefly: ignore[missing-attribute]
