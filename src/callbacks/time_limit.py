"""TimeLimit: ``trainer.max_time``, which says what it did."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from src.errors import UserError

__all__ = ["TimeLimit"]


class TimeLimit(Timer):
    """Lightning's, with a line where it ended training; each start of a run has the whole time.

    Lightning counts the time before a resume too, so that a run which has used it up would train no further.

    Args:
        max_time: ``"DD:HH:MM:SS"``, or a mapping as for ``datetime.timedelta``.

    Raises:
        UserError: if it is neither.
    """

    def __init__(self, max_time: str | dict[str, float]) -> None:
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
        if trainer.is_global_zero and trainer.should_stop and self.time_remaining() <= 0:
            place = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
            print(f"trainer.max_time is over at {place}; resume= trains for as long again", flush=True)
