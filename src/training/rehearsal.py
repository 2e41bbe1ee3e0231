"""A dry run of a fit: what training would refuse later is refused before any file is written."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import pytorch_lightning as pl
import torch
from torch import nn

from ..data import SegmentationDataModule
from ..errors import UserError
from ..models.net import Net
from .batch_norm import FreezeNorms
from .module import SegmentationModule
from .trainer_parts import callbacks_of

__all__ = ["rehearse"]


def rehearse(
    trainer: pl.Trainer, module: SegmentationModule, datamodule: SegmentationDataModule, *, size: Sequence[int]
) -> None:
    """Counts batches, makes optimiser and schedule, and lets the net name its outputs, all without a step.

    Args:
        trainer, module, datamodule: those of the fit.
        size: (height, width) of the images in training.

    Raises:
        UserError: for whatever of this the fit could not do.
    """
    _check_batches(trainer, datamodule)
    for callback in callbacks_of(trainer, FreezeNorms):
        callback.check(module.net)
    module.supervision.check_outputs(_outputs(module.net, size))
    module.optimization(trainer, datamodule)


def _check_batches(trainer: pl.Trainer, datamodule: SegmentationDataModule) -> None:
    """Every share of batches is one or more, and validation takes place."""
    datamodule.trainer = trainer
    _check_share("trainer.limit_train_batches", trainer.limit_train_batches, datamodule.whole_batches)
    _check_share("trainer.limit_val_batches", trainer.limit_val_batches, len(datamodule.val_dataloader()))
    interval, batches = trainer.val_check_interval, datamodule.train_batches
    _check_share("trainer.val_check_interval", interval, batches)
    if isinstance(interval, int) and interval > batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches, so nothing would be validated;"
            f" use {batches} or less, or a share such as 1.0"
        )


def _check_share(option: str, share: float, count: int) -> None:
    if isinstance(share, float) and share > 0 and int(share * count) < 1:
        raise UserError(
            f"{option}={share} of {count} batches is less than one; raise it, or give a whole number of batches"
        )


def _outputs(net: nn.Module, size: Sequence[int]) -> list[str]:
    """Names of what ``net`` gives in training, told without computing anything."""
    net = cast(Net, copy.deepcopy(net).to("meta").train())
    with torch.device("meta"), torch.no_grad():
        return list(net(torch.empty(2, net.in_channels, *size)))
