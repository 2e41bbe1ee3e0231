"""The batch norms of any net, those of timm included: other constants, frozen, or over all devices."""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import Fraction, Positive
from .module import segmentation_module

__all__ = ["FreezeNorms", "SyncBatchNorms", "batch_norms", "set_norms"]


def batch_norms(net: nn.Module) -> list[_BatchNorm]:
    """All batch norms of a net, including synchronised ones and those that hold their activation."""
    return [part for part in net.modules() if isinstance(part, _BatchNorm)]


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
        freeze: ``"statistics"``: images are normalised by the running statistics, and scale and shift are trained;
            ``"all"``: these are not trained either.

    Raises:
        UserError: for another word, and at the start of a fit for a net without batch norms.
    """

    @checked("norms")
    def __init__(self, freeze: Literal["statistics", "all"]) -> None:
        self.what = freeze

    def check(self, net: nn.Module) -> None:
        """Raise a ``UserError`` for a net without batch norms."""
        if not batch_norms(net):
            raise UserError(f"norms.freeze={self.what}, but the net has no batch norms; set norms.freeze=null")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        net = segmentation_module(pl_module).net
        self.check(net)
        if self.what == "all":
            for norm in batch_norms(net):
                norm.requires_grad_(False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        statistics = [norm.running_mean for norm in batch_norms(segmentation_module(pl_module).net)]
        if not any(mean is not None and mean.any() for mean in statistics):
            warnings.warn(
                f"norms.freeze={self.what} keeps running statistics that are still the initial ones; start from trained"
                " weights with init_from=... or model.net.backbone.pretrained=true",
                stacklevel=1,
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Before each step: Lightning and the end of a validation put the whole net into training mode.
        for norm in batch_norms(segmentation_module(pl_module).net):
            norm.eval()


class SyncBatchNorms(LayerSync):
    """What ``sync_batchnorm=true`` does, without losing activations, and between processes on CPUs as well.

    Many backbones of timm hold a norm and its activation in one module, which torch's own conversion, Lightning's
    default, replaces by a norm alone. Torch's synchronised norm needs a GPU.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Every batch norm becomes one that shares its statistics; weights are kept."""
        if not dist.is_initialized() or next(model.parameters()).device.type != "cpu":
            return convert_sync_batchnorm(model)
        for norm in batch_norms(model):
            shared = _SharedThenActivation if isinstance(norm, BatchNormAct2d) else _Shared
            norm.forward = shared(norm)  # pyrefly: ignore[bad-assignment]  # torch calls whatever stands here
            norm.synchronised = True  # pyrefly: ignore[bad-argument-type]  # read by ``src.models.checks``
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Leaves the norms as they are: on one device they work like any other."""
        for part in model.modules():
            if isinstance(part.__dict__.get("forward"), _Shared):
                del part.forward, part.synchronised
        return model


class _Shared:
    """The forward of a batch norm whose statistics are those of all processes together."""

    def __init__(self, norm: _BatchNorm) -> None:
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training:
            return type(norm).forward(norm, x)
        mean, var, count = _statistics(x.to(torch.promote_types(x.dtype, torch.float32)))
        if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            with torch.no_grad():
                norm.running_mean.lerp_(mean, share)
                norm.running_var.lerp_(var * count / (count - 1), share)  # unbiased, as torch keeps it
        scale, shift = (mean.new_ones(()), mean.new_zeros(())) if norm.weight is None else (norm.weight, norm.bias)
        factor = scale * torch.rsqrt(var + norm.eps)
        return (x * _beside(factor, x) + _beside(shift - mean * factor, x)).to(x.dtype)


class _SharedThenActivation(_Shared):
    """The same for a norm of timm that is followed by its dropout and activation."""

    def __call__(self, x: Tensor) -> Tensor:
        normalised, norm = super().__call__(x), cast(BatchNormAct2d, self.norm)
        return norm.act(norm.drop(normalised)) if norm.training else normalised


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) over all processes, and how many values they are of."""
    axes = [0, *range(2, x.ndim)]
    values = x.new_full((1,), x.numel() / x.shape[1])
    total = _Sum.apply(torch.cat([x.sum(axes), values]))  # sums and counts in one exchange
    mean, count = total[:-1] / total[-1].detach(), total[-1].detach()
    centred = x - _beside(mean, x)  # a second exchange: a mean of squares less a squared mean would lose digits
    return mean, _Sum.apply(centred.square().sum(axes)) / count, count


def _beside(channels: Tensor, x: Tensor) -> Tensor:
    """(C,) so shaped that it broadcasts over ``x`` (B,C,...)."""
    return channels.view(1, -1, *[1] * (x.ndim - 2))


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]  # it has one output
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
