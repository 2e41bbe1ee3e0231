"""Batch norm over all devices, for norms that rectify too."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn

__all__ = ["SyncBatchNorms"]


class SyncBatchNorms(LayerSync):
    """What ``sync_batchnorm=true`` does, without losing activations, and between processes on CPUs as well.

    Many trunks of timm hold a norm and its activation in one module, which torch's own conversion, Lightning's default,
    replaces by a norm alone. Torch's synchronised norm needs a GPU.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Every batch norm becomes one that shares its statistics; weights are kept."""
        from timm.layers import BatchNormAct2d, convert_sync_batchnorm

        if not dist.is_initialized() or next(model.parameters()).device.type != "cpu":
            return convert_sync_batchnorm(model)
        for part in list(model.modules()):
            if isinstance(part, BatchNormAct2d):
                part.forward = _ThenAct(part)
            elif isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.forward = _Shared(part)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Leaves the norms as they are: on one device they work like any other."""
        for part in model.modules():
            if isinstance(part.__dict__.get("forward"), _Shared):
                del part.forward, part.synchronised
        return model


class _Shared:
    """The forward of a batch norm whose statistics are those of all processes together."""

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm
        norm.synchronised = True

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training:
            return type(norm).forward(norm, x)
        mean, var, count = _statistics(x.to(torch.promote_types(x.dtype, torch.float32)))
        if norm.track_running_stats:
            norm.num_batches_tracked += 1
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            with torch.no_grad():
                norm.running_mean.lerp_(mean, share)
                norm.running_var.lerp_(var * count / (count - 1), share)
        scale, shift = (mean.new_ones(()), mean.new_zeros(())) if norm.weight is None else (norm.weight, norm.bias)
        shape = (1, -1, *[1] * (x.ndim - 2))
        factor = scale * torch.rsqrt(var + norm.eps)
        return (x * factor.view(shape) + (shift - mean * factor).view(shape)).to(x.dtype)


class _ThenAct(_Shared):
    def __call__(self, x: Tensor) -> Tensor:
        if not self.norm.training:
            return type(self.norm).forward(self.norm, x)
        return self.norm.act(self.norm.drop(super().__call__(x)))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) over all processes, and how many values they are of."""
    axes = [0, *range(2, x.ndim)]
    values = x.new_full((1,), x.numel() / x.shape[1])
    total = _Sum.apply(torch.cat([x.sum(axes), values]))
    mean, count = total[:-1] / total[-1].detach(), total[-1].detach()
    centred = x - mean.view(1, -1, *[1] * (x.ndim - 2))
    return mean, _Sum.apply(centred.square().sum(axes)) / count, count


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
