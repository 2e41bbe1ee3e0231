"""Throughput: images per second in training, and the share of time spent waiting for data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from ..training.trainer_parts import at_log_step, callbacks_of

__all__ = ["Throughput", "throughput_of"]


@dataclass
class _Tally:
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class Throughput(Callback):
    """Logs ``train/images_per_second`` (all devices), ``train/data_wait`` and, on CUDA, ``train/peak_memory_gb``.

    ``data_wait`` is the share (0..1) of training time between the end of a step and the start of the next: loading the
    batch and moving it. Clocks are read on the host and the device is never made to wait; that the host runs a few
    steps ahead of a GPU averages out over a window of ``log_every_n_steps``. Validation does not count, nor does the
    first step of a run, which warms up and compiles. To be listed before the callbacks that write what was logged.

    Attributes:
        seconds: wall-clock time of the whole fit with validation, nan until it has ended.
    """

    def __init__(self) -> None:
        self.seconds = math.nan
        self._total, self._window = _Tally(), _Tally()
        self._began = 0.0  # of the fit
        self._started = 0.0  # of the present step
        self._ended: float | None = None  # of the last step; None where what follows is not waiting for data
        self._warm = False
        self._step = 0  # batches of one accumulated step share it

    @property
    def images_per_second(self) -> float:
        """Training images per second of the run so far, over all devices; nan before the second step."""
        return self._total.images / self._total.seconds if self._total.images else math.nan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = time.perf_counter()  # the first batch of an epoch may wait for workers to start

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        waited = 0.0 if self._ended is None else self._started - self._ended
        self._ended = now
        if not self._warm:
            self._warm = True
            return
        images = batch["image"].shape[0] * trainer.world_size
        for tally in (self._total, self._window):
            tally.images += images
            tally.seconds += now - self._started + waited
            tally.waited += waited
        step, last = trainer.global_step, self._step
        self._step = step
        if (step != last and at_log_step(trainer)) or trainer.is_last_batch:
            self._log(pl_module)  # at steps that Lightning sends to loggers, which go on counting over epochs

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self._began

    def _log(self, pl_module: LightningModule) -> None:
        window, self._window = self._window, _Tally()
        pl_module.log("train/images_per_second", window.images / window.seconds)
        pl_module.log("train/data_wait", window.waited / window.seconds)
        if pl_module.device.type == "cuda":
            pl_module.log("train/peak_memory_gb", torch.cuda.max_memory_allocated(pl_module.device) / 2**30)


def throughput_of(trainer: Trainer) -> float:
    """Training images per second, nan if it was not measured."""
    measured = callbacks_of(trainer, Throughput)
    return measured[0].images_per_second if measured else math.nan
