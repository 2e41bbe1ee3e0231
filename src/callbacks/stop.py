"""StopOnSignal: a scheduler that wants its machine back gets a saved run and a status that is not 0."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from src.callbacks.last import step_is_whole

__all__ = ["StopOnSignal"]

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # Windows: one


class StopOnSignal(Callback):
    """On SIGTERM or SIGUSR1 saves the newest checkpoint after the present step and exits with 128 + signal.

    One process that gets the signal is enough: after every step all agree whether to stop, so none is left waiting. In
    validation the signal waits for the first step behind it. In a test, and wherever no step follows, there is nothing
    to save and the process ends at once. In a job of SLURM, SIGUSR1 (``#SBATCH --signal=USR1@120``) has the job queued
    again, too. Replaces Lightning's handlers, which save in the middle of a step, or exit with status 0.
    """

    def __init__(self) -> None:
        self._received = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(self._remember)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(_exit)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_is_whole(trainer) and (number := self._agreed(trainer)):
            path = _save(trainer)
            _stop(trainer, number, f"saved {path}" if path else "nothing is saved, since callbacks.last=null")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if number := self._agreed(trainer):
            _stop(trainer, number, "training is over, its weights are still to be scored")

    def _listen(self, handler: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        self._received = number

    def _agreed(self, trainer: Trainer) -> int:
        """The signal that any process received, 0 for none."""
        if trainer.world_size == 1:
            return self._received
        received = torch.tensor(self._received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))


def _stop(trainer: Trainer, number: int, what: str) -> None:
    if trainer.is_global_zero:
        print(f"{signal.Signals(number).name} at step {trainer.global_step}: {what}", flush=True)
        if number != signal.SIGTERM:
            _requeue()
    _exit(number)


def _save(trainer: Trainer) -> str | None:
    newest = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    newest = [callback for callback in newest if callback.monitor is None]
    if not newest:
        return None
    path = newest[0].format_checkpoint_name({})
    trainer.save_checkpoint(path)
    return path


def _requeue() -> None:
    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if job and scontrol:
        queued = subprocess.run([scontrol, "requeue", job], check=False).returncode == 0
        print(f"job {job} {'is queued again' if queued else 'could not be queued again'}", flush=True)


def _exit(number: int, frame: Any = None) -> None:
    raise SystemExit(128 + number)
