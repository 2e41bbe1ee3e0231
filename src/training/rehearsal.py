"""A fit in the small: what it would refuse after its first files, it refuses before them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torch import nn

from src.errors import UserError
from src.training.batch_norm import FreezeNorms, batch_norms

if TYPE_CHECKING:
    from src.data import SegmentationDataModule
    from src.training.module import SegmentationModule

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
    if not batch_norms(module.net):
        for callback in trainer.callbacks:
            if isinstance(callback, FreezeNorms):
                raise UserError(f"norms.freeze={callback.what}, but the net has no batch norms; set norms.freeze=null")
    module.supervision.check_outputs(_outputs(module.net, size))
    module.rehearse(trainer, datamodule)


def _check_batches(trainer: pl.Trainer, datamodule: SegmentationDataModule) -> None:
    """Every share of batches is one or more, and validation takes place."""
    datamodule.trainer = trainer
    counts = {
        "train": datamodule.whole_batches,
        "val": len(datamodule.val_dataloader()),
    }
    for stage, count in counts.items():
        _check_share(f"trainer.limit_{stage}_batches", getattr(trainer, f"limit_{stage}_batches"), count)
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
    net = copy.deepcopy(net).to("meta").train()
    with torch.device("meta"), torch.no_grad():
        return list(net(torch.empty(2, net.in_channels, *size)))
