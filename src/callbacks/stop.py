"""StopOnSignal: a scheduler that wants its machine back gets a saved run and a status that is not 0."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from src.callbacks.last import step_is_whole

__all__ = ["StopOnSignal"]

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]  # Windows: one


class StopOnSignal(Callback):
    """On SIGTERM or SIGUSR1 saves the newest checkpoint after the present step and exits with 128 + signal.

    One process that gets the signal is enough: in every step all ask each other whether to stop, so none is left
    waiting. They ask behind the forward pass, and what comes later counts for the next step: the answer is there
    while the device still has work, so that hosts do not wait for the end of a step. In validation the signal waits for
    the first step behind it. In a test, and wherever no step follows, there is nothing to save and the process ends at
    once. In a job of SLURM, SIGUSR1 (``#SBATCH --signal=USR1@120``) has the job queued again, too. Replaces Lightning's
    handlers, which save in the middle of a step, or exit with status 0.
    """

    def __init__(self) -> None:
        self._received = 0
        self._asked: _Question | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(self._remember)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(_exit)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if trainer.world_size > 1:
            self._asked = _Question(self._received, loss.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_is_whole(trainer) and (number := self._asked.answer() if self._asked else self._received):
            path = _save(trainer)
            _stop(trainer, number, f"saved {path}" if path else "nothing is saved, since callbacks.last=null")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        several = trainer.world_size > 1
        if number := _Question(self._received, pl_module.device).answer() if several else self._received:
            _stop(trainer, number, "training is over, its weights are still to be scored")

    def _listen(self, handler: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        self._received = number


class _Question:
    """Which signal any process has received, 0 for none; asked at once, answered when the devices have come to it."""

    def __init__(self, own: int, device: torch.device) -> None:
        highest = torch.full((), own, device=device)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        self._answer = highest.to("cpu", non_blocking=device.type == "cuda")
        self._there = torch.cuda.Event() if device.type == "cuda" else None
        if self._there:
            self._there.record()

    def answer(self) -> int:
        """Waits for what the device was given before the question, not for what it was given since."""
        if self._there:
            self._there.synchronize()
        return int(self._answer)


def _stop(trainer: Trainer, number: int, what: str) -> None:
    if trainer.is_global_zero:
        print(f"{signal.Signals(number).name} at step {trainer.global_step}: {what}", flush=True)
        if number != signal.SIGTERM:
            _requeue()
    trainer.strategy.barrier()  # a launcher may kill all others when the first exits, the one that queues included
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
