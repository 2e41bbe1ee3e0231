"""Batch norms of any net, those of timm included: other constants, and training while they are frozen."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import pytorch_lightning as pl
from torch import nn

from src.errors import UserError
from src.schema.faults import checked
from src.schema.types import Fraction, Positive

__all__ = ["FreezeNorms", "batch_norms", "set_norms"]


def batch_norms(net: nn.Module) -> list[nn.Module]:
    """All batch norms of a net, synchronised ones and those that rectify too."""
    return [part for part in net.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@checked("norms")
def set_norms(net: nn.Module, *, momentum: Fraction | None = None, eps: Positive | None = None) -> None:
    """Gives every batch norm these constants; ``None`` leaves them.

    Args:
        net: changed in place.
        momentum: share of a new batch in the running statistics; TensorFlow's decay of 0.9997 is 3e-4.
        eps: added to the variance.

    Raises:
        UserError: for a momentum outside (0, 1], or an eps that is not above 0.
    """
    for norm in batch_norms(net):
        norm.momentum = norm.momentum if momentum is None else momentum
        norm.eps = norm.eps if eps is None else eps


class FreezeNorms(pl.Callback):
    """Trains a net with batch norms that keep their running statistics (DeepLab v2; the second phase of v3).

    Args:
        freeze: ``"statistics"``: images are normed by the running statistics, and scale and shift are trained;
            ``"all"``: these are not trained either.

    Raises:
        UserError: for another word, and at the start of a fit for a net without batch norms.
    """

    @checked("norms")
    def __init__(self, freeze: Literal["statistics", "all"]) -> None:
        self.what = freeze

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        norms = batch_norms(pl_module.net)
        if stage == "fit" and not norms:
            raise UserError(f"norms.freeze={self.what}, but the net has no batch norms; set norms.freeze=null")
        if stage == "fit" and self.what == "all":
            for norm in norms:
                norm.requires_grad_(False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        statistics = [norm.running_mean for norm in batch_norms(pl_module.net)]
        if not any(mean is not None and mean.any() for mean in statistics):
            warnings.warn(
                f"norms.freeze={self.what} keeps statistics that no image has shaped yet; start from trained weights"
                " with init_from=... or model.net.backbone.pretrained=true",
                stacklevel=1,
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for norm in batch_norms(pl_module.net):  # before each step, whoever has called train() since
            norm.eval()
