"""Runs that end in time: ``Deadline`` keeps to ``budget``, ``TimeLimit`` to ``trainer.max_time``."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ..errors import UserError

__all__ = ["Deadline", "TimeLimit"]

_ASK_EVERY = 10  # steps, where several devices have to agree


class Deadline(Callback):
    """Ends training when no more than a validation and the test fit into the time that is left.

    The length of the run was chosen by measured steps; this is for steps that turn out slower. The weights are then
    validated, saved and scored as at any other end; ``resume=`` trains to the planned length, without a deadline.

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
        if several:
            over = trainer.strategy.reduce_boolean_decision(over, all=False)
        if over:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        epochs, done = trainer.fit_loop.max_epochs or 0, trainer.fit_loop.epoch_loop.total_batch_idx + 1
        steps = epochs * trainer.num_training_batches
        if done >= steps or trainer.should_stop:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            print(
                f"budget: training ends at batch {done} of {steps}, since steps were slower than those measured; the"
                " rest of the time is for the scores",
                flush=True,
            )


class TimeLimit(Timer):
    """Lightning's ``Timer``, with a line where it ended training; each start of a run has the whole time.

    Lightning counts the time before a resume too, so that a run which has used it up would train no further.

    Args:
        max_time: ``"DD:HH:MM:SS"``, or a mapping as for ``datetime.timedelta``.

    Raises:
        UserError: if it is neither.
    """

    def __init__(self, max_time: str | dict[str, int]) -> None:
        try:
            super().__init__(max_time)
        except (MisconfigurationException, TypeError) as error:
            raise UserError(
                f"trainer.max_time={max_time} cannot be read; write days, hours, minutes and seconds: 00:02:30:00"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        left = self.time_remaining()
        if trainer.is_global_zero and trainer.should_stop and left is not None and left <= 0:
            place = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
            print(f"trainer.max_time is over at {place}; resume= trains for as long again", flush=True)
