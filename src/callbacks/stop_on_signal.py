"""StopOnSignal: a run that a scheduler stops saves a checkpoint and exits with a status other than 0."""

from __future__ import annotations

import signal
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from torch import Tensor

from ..runtime import signals
from ..training.trainer_parts import callbacks_of
from .checkpoints import step_is_whole

__all__ = ["StopOnSignal", "only_own_handlers"]


def only_own_handlers(trainer: Trainer) -> Trainer:
    """Keeps Lightning from handling signals, which saves in the middle of a step, or exits with status 0."""
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


class StopOnSignal(Callback):
    """While a net is trained, SIGTERM or SIGUSR1 saves the newest checkpoint and exits with 128 + signal.

    The signal may reach only one process: in every step all processes exchange whether to stop, so none is left
    waiting. They do so after the forward pass, and a signal that comes later counts for the next step: the answer
    arrives while the device still has work, so hosts do not wait for the end of a step. During validation the signal is
    kept until the end of the epoch or the first step after it. Before the first step and after the last nothing is to
    be saved, and ``src.runtime.signals.leave`` answers. In a job of SLURM, SIGUSR1 (``#SBATCH --signal=USR1@120``) also
    has the job queued again.
    """

    def __init__(self) -> None:
        self._received = 0
        self._asked: _Question | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            signals.listen(self._leave_or_remember)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals.listen(self._remember)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if trainer.world_size > 1:
            self._asked = _Question(self._received, loss.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_is_whole(trainer):
            self._save_and_stop(trainer, self._asked.answer() if self._asked else self._received)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where every step ends an epoch, none is whole."""
        if number := self._ask_now(trainer, pl_module):
            _finish_epoch(trainer, pl_module)
            self._save_and_stop(trainer, number)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals.listen(signals.leave)  # before the question, so that no signal is lost between
        if number := self._ask_now(trainer, pl_module):
            _stop(trainer, number, "training is over, its weights are still to be scored")

    def _ask_now(self, trainer: Trainer, pl_module: LightningModule) -> int:
        return _Question(self._received, pl_module.device).answer() if trainer.world_size > 1 else self._received

    def _save_and_stop(self, trainer: Trainer, number: int) -> None:
        if number:
            path = _save(trainer)
            _stop(trainer, number, f"saved {path}" if path else "nothing is saved, since callbacks.last=null")

    def _leave_or_remember(self, number: int, frame: Any) -> None:
        """Where the process does not leave at once, the signal counts in the first step."""
        self._received = number
        signals.leave(number)

    def _remember(self, number: int, frame: Any) -> None:
        self._received = number


class _Question:
    """Which signal any process has received, 0 for none: sent to the device at once, read when the answer is needed."""

    def __init__(self, own: int, device: torch.device) -> None:
        highest = torch.full((), own, device=device)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        self._answer = highest.to("cpu", non_blocking=device.type == "cuda")
        self._answered = torch.cuda.Event() if device.type == "cuda" else None
        if self._answered:
            self._answered.record()

    def answer(self) -> int:
        """Waits only for the work that the device was given before the question."""
        if self._answered:
            self._answered.synchronize()
        return int(self._answer)


def _finish_epoch(trainer: Trainer, module: LightningModule) -> None:
    """Lightning calls these at the very end of an epoch, and a resumed run takes them for done."""
    for callback in callbacks_of(trainer, Callback):
        if isinstance(callback, (Checkpoint, EarlyStopping)):
            callback.on_train_epoch_end(trainer, module)


def _stop(trainer: Trainer, number: int, what: str) -> None:
    if trainer.is_global_zero:
        print(f"{signal.Signals(number).name} at step {trainer.global_step}: {what}", flush=True)
        if number != signal.SIGTERM:  # SLURM's time is up; SIGTERM is also sent to a job that is cancelled
            signals.requeue()
    trainer.strategy.barrier()  # a launcher may kill all others when the first exits, the one that queues included
    raise SystemExit(128 + number)


def _save(trainer: Trainer) -> str | None:
    newest = [callback for callback in callbacks_of(trainer, ModelCheckpoint) if callback.monitor is None]
    if not newest:
        return None
    path = newest[0].format_checkpoint_name({})
    trainer.save_checkpoint(path)
    return path
