"""Region mutual information (Zhao et al. 2019, arXiv 1910.12037) with sigmoid cross-entropy.

Each 3x3 neighbourhood is a point with nine coordinates, of the label and of the prediction. The loss raises a lower
bound of the mutual information between both, so that structure is learnt and not single pixels. Options and defaults
are those of NVIDIA/semantic-segmentation (hierarchical multi-scale attention, arXiv 2005.10821, section 3.3).

Deviations: a Cholesky solve instead of an inverse; classes are taken a few at a time, and what they need in between is
computed again for the gradient instead of being kept, so memory grows neither with classes nor with the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from ..schema.faults import checked
from ..schema.types import Count, NotNegative, Share, Whole
from .bce import summed_bce
from .masking import Criterion, channel_classes, split_label

__all__ = ["RMILoss"]

_LEAST_SIDE = 12  # pixels; below, a map at a quarter holds too few neighbourhoods
_LEAST_PROBABILITY = 1e-6
_GROWTH = (1e4, 1e2, 1.0)  # factors on the jitter, the last that works counts
_BYTES_AT_ONCE = 1 << 27


class RMILoss(Criterion):
    """``weight_lambda * BCE + (1 - weight_lambda) * RMI``; the value is often negative.

    A class that does not occur adds the constant ``ln(jitter) / 2`` (-3.8005) without a gradient, so a batch without
    valid pixels has a value below 0 (-36.104 with 19 classes), a graph, and a gradient of 0.

    Args:
        radius: side of the neighbourhood in pixels of the pooled map.
        pool: how label and probabilities shrink first: ``average``, ``max``, ``resize`` (nearest for the label,
            bilinear for probabilities), ``none``.
        pool_size, pool_stride, pool_padding: of the pooling; ``resize`` divides by the stride.
        weight_lambda: weight of BCE, 0 to 1.
        lambda_way: 0 is ``BCE + weight_lambda * RMI``.
        jitter: added to the diagonals of the covariances, which are sums and not means.
        precision: ``float64``, or ``float32`` for devices without it, of covariances and determinants.
        ignore_index: label value that takes no part.

    Attributes:
        fallbacks: int64 scalar on the device: steps that had a matrix without a determinant at 10,000 times the jitter
            and were trained on BCE alone; ``None`` before the first.

    Raises:
        UserError: for options outside these limits; on the first forward for maps below 12 pixels a side.
    """

    @checked("loss")
    def __init__(
        self,
        *,
        radius: Count = 3,
        pool: Literal["average", "max", "resize", "none"] = "average",
        pool_size: Count = 4,
        pool_stride: Count = 4,
        pool_padding: Whole = 2,
        weight_lambda: Share = 0.5,
        lambda_way: Literal[0, 1] = 1,
        jitter: NotNegative = 5e-4,
        precision: Literal["float64", "float32"] = "float64",
        ignore_index: int = 255,
    ) -> None:
        super().__init__(ignore_index)
        if pool_padding > pool_size // 2:
            raise UserError(f"loss.pool_padding={pool_padding} must lie in 0 to half of pool_size={pool_size}")
        if jitter == 0:
            raise UserError("loss.jitter=0 leaves matrices without a determinant; use a number above 0")
        self.radius, self.pool, self.jitter = radius, pool, jitter
        windows = {"none": (1, 1, 0), "resize": (pool_stride, pool_stride, 0)}
        self.pool_window = windows.get(pool, (pool_size, pool_stride, pool_padding))
        self.factors = (weight_lambda, 1 - weight_lambda) if lambda_way == 1 else (1.0, weight_lambda)
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.fallbacks: Tensor | None = None

    def logged(self) -> Mapping[str, Tensor]:
        """``rmi_fallbacks``, see ``fallbacks``."""
        return {} if self.fallbacks is None else {"rmi_fallbacks": self.fallbacks.float()}

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B,K,H,W) float logits, or (B,1,H,W) of class 1 against class 0, and (B,H,W) integer label -> scalar."""
        self._check_size(logits)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            target, valid = split_label(logits, label, self.ignore_index)
            bce = summed_bce(logits, target).where(valid, 0).sum() / (valid.sum() + 1)
            information, sound = self._information(self._covariances(logits, target, valid))
        self.fallbacks = (~sound).long() + (0 if self.fallbacks is None else self.fallbacks.to(sound.device))
        return torch.where(sound, self.factors[0] * bce + self.factors[1] * information.float(), bce)

    def _check_size(self, logits: Tensor) -> None:
        height, width = logits.shape[-2:]
        size, stride, padding = self.pool_window
        pooled = (min(height, width) + 2 * padding - size) // stride + 1
        if min(height, width) < _LEAST_SIDE or pooled < self.radius:
            raise UserError(
                f"loss=rmi cannot use maps of {height}x{width} pixels (height x width): it needs {_LEAST_SIDE} a side,"
                f" and {self.radius} after pooling; enlarge transforms.crop_size, or choose loss=bce"
            )

    def _covariances(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """(B,C,2R,2R): sums over all neighbourhoods, of R label coordinates and then R of the prediction."""
        classes = channel_classes(logits)
        cells = logits[:, 0].numel() // self.pool_window[1] ** 2
        each = 4 * self.radius**2 * cells * self.dtype.itemsize + 4 * logits[:, 0].numel() * logits.element_size()
        step = max(1, _BYTES_AT_ONCE // each)
        parts = zip(logits.split(step, 1), classes.split(step), strict=True)
        options = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat([checkpoint(self._covariance, *part, target, valid, **options) for part in parts], 1)

    def _covariance(self, logits: Tensor, classes: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        truth = ((target[:, None] == classes.view(-1, 1, 1)) & valid[:, None]).to(logits.dtype)
        probs = logits.sigmoid() * valid[:, None] + _LEAST_PROBABILITY
        maps = self._shrunk(truth, "nearest"), self._shrunk(probs, "bilinear")
        points = torch.cat([self._points(each) for each in maps], 2)
        points = points - points.mean(-1, keepdim=True)
        return points @ points.mT

    def _shrunk(self, maps: Tensor, resize_mode: str) -> Tensor:
        if self.pool == "none":
            return maps
        if self.pool == "resize":
            size = [side // self.pool_window[1] for side in maps.shape[-2:]]
            return F.interpolate(maps, size, mode=resize_mode)
        pooling = F.avg_pool2d if self.pool == "average" else F.max_pool2d
        return pooling(maps, *self.pool_window)

    def _points(self, maps: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C,R,number of neighbourhoods) in the precision of the covariances."""
        height, width = (side - self.radius + 1 for side in maps.shape[-2:])
        maps, offsets = maps.to(self.dtype), range(self.radius)
        return torch.stack([maps[..., i : i + height, j : j + width] for i in offsets for j in offsets], 2).flatten(3)

    def _information(self, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Half the log-determinant of the label's covariance given the prediction, summed over classes; all sound?"""
        size = self.radius**2
        (truth, _), (cross, probs) = (rows.split(size, -1) for rows in covariance.split(size, -2))
        factor, sound = self._cholesky(probs)
        explained = torch.linalg.solve_triangular(factor, cross, upper=False)
        factor, also = self._cholesky(truth - explained.mT @ explained)
        halves = (factor.diagonal(dim1=-2, dim2=-1) + 1e-8).log().sum(-1)
        return halves.mean(0).sum() / size, sound & also

    def _cholesky(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Lower factor of the matrix with the least jitter that works, and whether all have one; never waits.

        A matrix that none works for is replaced by the identity, through which no gradient flows.
        """
        eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        with torch.no_grad():
            jitter = torch.zeros_like(matrix[..., :1, :1])
            for growth in _GROWTH:
                factor, info = torch.linalg.cholesky_ex(matrix + growth * self.jitter * eye)
                works = (info == 0) & factor.isfinite().all(-1).all(-1)
                jitter = torch.where(works[..., None, None], growth * self.jitter, jitter)
        sound = jitter > 0
        return torch.linalg.cholesky_ex(torch.where(sound, matrix + jitter * eye, eye))[0], sound.all()
