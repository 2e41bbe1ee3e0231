"""LastCheckpoint: the newest state of a run, never one whose validation is still to come."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer

from src.callbacks.movable_checkpoint import MovableCheckpoint
from src.schema.types import Count

__all__ = ["LastCheckpoint"]


class LastCheckpoint(MovableCheckpoint):
    """Writes ``last.ckpt`` every few epochs, or every few steps and at the end of each epoch; and when training ends.

    Lightning does not validate again when it goes on from a state that was saved between a step and the validation
    behind it. Such a save waits until the validation is over, so a run that goes on misses none.

    Args:
        dirpath: folder of the checkpoints.
        every_n_epochs: epochs from one save to the next; ``None`` together with ``every_n_train_steps``.
        every_n_train_steps: optimiser steps from one save to the next.
    """

    def __init__(
        self, dirpath: str, *, every_n_epochs: Count | None = 1, every_n_train_steps: Count | None = None
    ) -> None:
        super().__init__(
            dirpath,
            filename="last",
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._waits = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_is_whole(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif self._every_n_train_steps and not trainer.fit_loop.epoch_loop._should_accumulate():
            self._waits = trainer.global_step % self._every_n_train_steps == 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits and not trainer.sanity_checking and not _epoch_ends(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._every_n_train_steps or _training_ends(trainer):
            self._save(trainer)
        super().on_train_epoch_end(trainer, pl_module)

    def _save(self, trainer: Trainer) -> None:
        self._waits = False
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


def step_is_whole(trainer: Trainer) -> bool:
    """Whether a state saved after this batch can be gone on with exactly: nothing of its step is still to come."""
    loop = trainer.fit_loop.epoch_loop
    validates = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    return not (loop._should_accumulate() or validates or _epoch_ends(trainer))


def _epoch_ends(trainer: Trainer) -> bool:
    loop = trainer.fit_loop.epoch_loop
    return loop._is_training_done


def _training_ends(trainer: Trainer) -> bool:
    """Whether the epoch that ends is the last."""
    steps = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
    epochs = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    return steps or epochs or trainer.should_stop
