"""How fast a config trains and validates on this computer, by a few real steps of a copy that is thrown away."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from ..callbacks import Deadline
from ..data import SegmentationDataModule
from ..training.budget import Speed, fitting_length, seconds_of, spell_seconds
from . import from_config
from .config_values import with_values

__all__ = ["measure", "with_length"]

_STEPS = (1, 50)  # measured behind the first, which warms up: at least and at most
_SHARE = 0.05  # of the budget that measuring may take, once there is one step
_VAL_BATCHES = 4
_FEW_STEPS = 500  # with fewer, a net from random weights hardly tells more than the commonest classes
_TEST_FACTOR = 2.0  # the test also measures probabilities and boundaries, draws, and writes the report


def measure(cfg: DictConfig, datamodule: SegmentationDataModule, *, seconds: float, scored: str = "test") -> Speed:
    """Train for a few steps and validate a few images, on the devices and with the options of the run to come.

    Nothing is written, and neither the weights nor the data order of the run to come depend on it.

    Args:
        cfg: of the run.
        datamodule: what it reads.
        seconds: of the whole budget; measuring takes a small share of it, but two steps at least.
        scored: split that is scored at the end.
    """
    short = {
        "max_epochs": 1,
        "max_steps": -1,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": 1,
        "val_check_interval": 1.0,
        "log_every_n_steps": 10**9,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    if cfg.trainer.limit_val_batches:
        short["limit_val_batches"] = _VAL_BATCHES
    cfg = with_values(cfg, {f"trainer.{name}": value for name, value in short.items()})
    watch = _Stopwatch(seconds * _SHARE)
    trainer = from_config.build_trainer(cfg, callbacks=[watch], loggers=[])
    trainer.fit(from_config.build_module(from_config.without_download(cfg), datamodule.label_space), datamodule)
    image = watch.validated / max(1, watch.images)
    counted = len(datamodule.val_dataset), len(getattr(datamodule, f"{scored}_dataset"))
    validation, test = (image * math.ceil(count / trainer.world_size) for count in counted)
    speed = Speed(watch.step, validation, _TEST_FACTOR * test)
    return trainer.strategy.broadcast(speed)  # all devices must plan alike


class _Stopwatch(pl.Callback):
    """Times steps and scored images; ends training after ``seconds``, then comes the validation."""

    def __init__(self, seconds: float) -> None:
        self.step = 0.0
        self.images, self.validated = 0, 0.0
        self._seconds, self._count = seconds, 0
        self._mark = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = _now(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        passed = _now(pl_module) - self._mark
        if batch_idx == 0:  # also stands for the rest where an epoch has one step
            self.step, self._mark = passed, _now(pl_module)
            return
        self.step = passed / batch_idx
        over = batch_idx >= _STEPS[1] or (batch_idx >= _STEPS[0] and passed >= self._seconds)
        if trainer.world_size > 1:
            over = trainer.strategy.reduce_boolean_decision(over, all=False)
        if over:
            trainer.should_stop = True

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._mark = _now(pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        passed = _now(pl_module) - self._mark
        if batch_idx == 1:  # the first warms up
            self.images, self.validated = 0, 0.0
        self.images += len(batch["name"])
        self.validated += passed


def _now(pl_module: pl.LightningModule) -> float:
    if pl_module.device.type == "cuda":
        torch.cuda.synchronize(pl_module.device)
    return time.monotonic()


def with_length(
    cfg: DictConfig, datamodule: SegmentationDataModule, *, began: float, scored: str
) -> tuple[DictConfig, str, Deadline]:
    """Choose the longest run that ends within ``cfg.budget``, before the schedule is built.

    Args:
        cfg: of the run.
        datamodule: what it reads.
        began: when the run began, on the clock of ``time.monotonic``.
        scored: split that is scored at the end.

    Returns:
        The config with that length, so that checkpoints hold it; a line that says what was chosen; and the callback
        that keeps to it.

    Raises:
        UserError: for a budget that cannot be read, or is too short for one step.
    """
    seconds = seconds_of(cfg.budget)
    speed = measure(cfg, datamodule, seconds=seconds, scored=scored)
    assert datamodule.trainer is not None  # that of measuring
    passed = datamodule.trainer.strategy.broadcast(time.monotonic() - began)
    length = fitting_length(seconds - passed, speed, datamodule.train_batches)
    chosen = {"max_epochs": length.epochs, "max_steps": -1, "check_val_every_n_epoch": length.validate_every}
    if length.batches < datamodule.train_batches:
        chosen["limit_train_batches"] = length.batches
    every = "" if length.validate_every == 1 else f" every {length.validate_every} epochs"
    line = (
        f"budget {cfg.budget}: {length.epochs} {'epoch' if length.epochs == 1 else 'epochs'} of {length.batches} steps"
        f" at {spell_seconds(speed.step)}, validation of {spell_seconds(speed.validation)}{every}"
    )
    steps = length.epochs * length.batches
    if steps < _FEW_STEPS:
        line += f"; {steps} steps are few, {_FEW_STEPS} would take about {spell_seconds(_FEW_STEPS * speed.step)}"
    cfg = with_values(cfg, {f"trainer.{name}": value for name, value in chosen.items()})
    return cfg, line, Deadline(began + seconds, validation=speed.validation, test=speed.test)
