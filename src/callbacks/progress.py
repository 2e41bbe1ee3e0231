"""Progress: a bar on a terminal or in a notebook, one line now and then in a log file."""

from __future__ import annotations

import datetime
import math
import sys
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar

from ..runtime.bars import IN_NOTEBOOK

__all__ = ["Progress"]

Shown = dict[str, int | str | float | dict[str, float]]

_REFRESH = 0.5  # seconds between two refreshes of the bar, each of which reads the loss and so waits for the device
_SILENCE = 10.0  # seconds between two lines of a log at least, ends of epochs excepted


class Progress(TQDMProgressBar):
    """Epoch, step, loss, learning rate, speed, share of waiting for data, time left, last and best validation mIoU.

    Where stdout is neither a terminal nor a notebook there is no bar: a line is printed at most every tenth of an
    epoch, at its end and after each validation. Of what it shows, ``train/loss``, ``lr/*``,
    ``train/images_per_second``, ``train/data_wait`` and ``val/miou`` are taken from the logged scalars and appear once
    they are there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._live = sys.stdout.isatty() or IN_NOTEBOOK
        self._shown = -math.inf  # when the bar or a line was written last
        self._began, self._first_step, self._steps = 0.0, 0, math.inf
        self._last_miou, self._best_miou = math.nan, -math.inf

    @property
    def is_enabled(self) -> bool:
        """Whether bars are drawn."""
        return super().is_enabled and self._live

    def state_dict(self) -> dict[str, Any]:
        return {"last_miou": self._last_miou, "best_miou": self._best_miou}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._last_miou, self._best_miou = state_dict["last_miou"], state_dict["best_miou"]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Shown:
        """The bar and the lines show this, in this order."""
        logged = trainer.callback_metrics
        total = f"/{self._steps}" if math.isfinite(self._steps) else ""
        shown: Shown = {"step": f"{trainer.global_step}{total}"}
        if "train/loss" in logged:
            shown["loss"] = f"{float(logged['train/loss']):.4f}"
        if rates := [float(value) for name, value in logged.items() if name.startswith("lr/")]:
            shown["lr"] = f"{max(rates):.2e}"
        if "train/images_per_second" in logged:
            shown["images/s"] = f"{float(logged['train/images_per_second']):.1f}"
        if "train/data_wait" in logged:
            shown["data wait"] = f"{100 * float(logged['train/data_wait']):.0f}%"
        done = trainer.global_step - self._first_step
        if done and math.isfinite(self._steps):
            left = (time.monotonic() - self._began) / done * (self._steps - trainer.global_step)
            shown["ETA"] = str(datetime.timedelta(seconds=round(left)))
        if not math.isnan(self._last_miou):
            shown |= {"mIoU": f"{100 * self._last_miou:.2f}", "best": f"{100 * self._best_miou:.2f}"}
        return shown

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # pyrefly: ignore[bad-override]
        super().on_train_start(trainer)
        self._began, self._first_step = time.monotonic(), trainer.global_step
        steps = trainer.estimated_stepping_batches
        self._steps = steps if steps > 0 else math.inf  # -1 where the length of the data is unknown

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        done, total = batch_idx + 1, trainer.num_training_batches  # total_train_batches falls to 0 with max_steps
        ends = done == total or trainer.global_step == self._steps
        if self._line_due(done, total) or (self._prints and ends):
            self._print_line(f"epoch {trainer.current_epoch}", **self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the bar is up to date, and reading means over the epoch on one device could wait for the others."""

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        total = self.total_val_batches_current_dataloader
        if not trainer.sanity_checking and self._line_due(batch_idx + 1, total):
            self._print_line("validation", batch=f"{batch_idx + 1}/{total}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._last_miou = float(trainer.callback_metrics["val/miou"])
            self._best_miou = max(self._best_miou, self._last_miou)  # in this order nan never wins
            if self._prints:
                miou, best = f"{100 * self._last_miou:.2f}", f"{100 * self._best_miou:.2f}"
                self._print_line(f"epoch {trainer.current_epoch}  validation", mIoU=miou, best=best)
        super().on_validation_end(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        self._shown = time.monotonic()  # a short test needs no line

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        total = self.total_test_batches_current_dataloader
        if self._line_due(batch_idx + 1, total):
            self._print_line("test", batch=f"{batch_idx + 1}/{total}")

    @property
    def _prints(self) -> bool:
        return super().is_enabled and not self._live

    def _should_update(self, current: int, total: int) -> bool:
        """Lightning asks this after each batch; it counts batches where we look at the clock."""
        due = self.is_enabled and (current == total or time.monotonic() - self._shown >= _REFRESH)
        if due:
            self._shown = time.monotonic()
        return due

    def _line_due(self, done: int, total: float) -> bool:
        tenth = math.isinf(total) or done * 10 // total > (done - 1) * 10 // total
        return self._prints and tenth and time.monotonic() - self._shown >= _SILENCE

    def _print_line(self, subject: str, **facts: Any) -> None:
        self._shown = time.monotonic()
        print("  ".join([subject, *(f"{name} {value}" for name, value in facts.items())]), flush=True)
