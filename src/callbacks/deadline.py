"""Deadline: a run with a time budget ends in time although its steps turn out slower than those measured before it."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

__all__ = ["Deadline"]

_ASK_EVERY = 10  # steps, where several devices have to agree


class Deadline(Callback):
    """Ends training when no more than a validation and the test fit into the time that is left.

    The weights are then validated, saved and scored as at any other end; ``resume=`` trains on to the length that was
    planned, without a deadline.

    Args:
        ends: when the run has to have ended, on the clock of ``time.monotonic``.
        validation: seconds that a validation takes; replaced by what each is seen to take.
        test: seconds that the test takes.
    """

    def __init__(self, ends: float, *, validation: float, test: float) -> None:
        self._ends, self._validation, self._test = ends, validation, test
        self._began = 0.0  # of the present validation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validation = time.monotonic() - self._began

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        several = trainer.world_size > 1
        if several and (batch_idx + 1) % _ASK_EVERY:
            return
        over = time.monotonic() + self._validation + self._test > self._ends
        if trainer.strategy.reduce_boolean_decision(over, all=False) if several else over:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        steps = trainer.fit_loop.max_epochs * trainer.num_training_batches
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        if done >= steps or trainer.should_stop:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            print(
                f"budget: training ends at batch {done} of {steps}, since steps were slower than those measured; the"
                " rest of the time is for the scores",
                flush=True,
            )
