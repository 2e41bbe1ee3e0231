"""Adaptive average pooling as a matrix product.

Equal to ``torch.nn.functional.adaptive_avg_pool2d``, whose gradient on CUDA is not deterministic and which ONNX cannot
express when the bins do not divide the map. Here forward and backward are one matrix product each, whatever the size.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adaptive_avg_pool", "pool_matrix"]


def pool_matrix(size: int, bins: int, like: Tensor) -> Tensor:
    """The matrix that averages ``size`` positions to ``bins``: (bins,size), each row sums to 1.

    Bin i covers the positions from floor(i * size / bins) to ceil((i + 1) * size / bins): neighbours overlap where
    ``bins`` does not divide ``size``, and repeat positions where it exceeds it.

    Args:
        size: number of positions.
        bins: number of averages.
        like: gives dtype and device.
    """
    index, position = torch.arange(bins, device=like.device), torch.arange(size, device=like.device)
    first, last = index * size // bins, ((index + 1) * size + bins - 1) // bins
    inside = (position >= first[:, None]) & (position < last[:, None])
    return inside.to(like.dtype) / (last - first)[:, None].to(like.dtype)


def adaptive_avg_pool(x: Tensor, bins: int) -> Tensor:
    """Averages over ``bins`` x ``bins`` parts of the map: (B,C,H,W) -> (B,C,bins,bins)."""
    if bins == 1:
        return x.mean(dim=(2, 3), keepdim=True)
    rows, columns = pool_matrix(x.shape[2], bins, x), pool_matrix(x.shape[3], bins, x)
    parts = rows[:, None, :, None] * columns[None, :, None, :]  # (bins,bins,H,W)
    pooled = x.flatten(2) @ parts.flatten(2).flatten(0, 1).mT  # (B,C,HW) @ (HW,bins*bins)
    return pooled.unflatten(2, (bins, bins))
