"""Samplers of asymmetric non-local blocks (arXiv 1908.07678): a map's N = H*W positions become S points.

All samplers of the paper's ablation: averages, maxima or single positions of the bins of one grid or of a pyramid of
grids, and positions drawn from the whole map. Bins are those of ``torch.nn.functional.adaptive_avg_pool2d``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from .adaptive_pooling import pool_matrix
from .checks import check_choice

__all__ = ["SAMPLERS", "Sampler"]

SAMPLERS = ("pyramid_average", "pyramid_max", "pyramid_random", "average", "max", "random")

Grids = Sequence[tuple[int, int]]  # rows and columns of each level


class Sampler(nn.Module):
    """Samples S points of each map, the same positions or bins in all: (B,C,H,W) -> (B,C,S).

    Averages run without atomic additions, forward and backward. Random positions are drawn anew in each training step
    and depend only on ``seed`` and the map's size in evaluation.

    Args:
        kind: of the sampler. ``pyramid_*`` has the grids ``sizes``; ``average`` and ``max`` have one grid of ``points``
            bins, as square as ``points`` allows. Each bin gives its average, its maximum per channel, or one of its
            positions. ``random`` takes ``points`` different positions of the map.
        sizes: of the pyramid's grids, a number (square) or rows and columns each.
        points: S of the other samplers.
        seed: of the positions in evaluation.

    Attributes:
        count: S.

    Raises:
        UserError: for another ``kind``, an empty pyramid, or a size or ``points`` that is not whole or below 1.

    Warns:
        UserWarning: if a size comes twice.
    """

    def __init__(
        self,
        kind: str = "pyramid_average",
        *,
        sizes: Sequence[int | Sequence[int]] = (1, 3, 6, 8),
        points: int = 110,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("sampler", kind, SAMPLERS)
        self.kind, self.seed = kind, seed
        self.grids = _pyramid(sizes) if kind.startswith("pyramid") else [_squarest(points)]
        self.count = sum(rows * columns for rows, columns in self.grids)

    def forward(self, *maps: Tensor) -> list[Tensor]:
        """One (B,C,S) per map; maps are (B,C,H,W) of one size.

        Raises:
            UserError: in training, if S reaches N, so that nothing is saved; always, if ``random`` is to take more
                positions than there are.

        Warns:
            UserWarning: in training, if a grid is finer than the map, so that bins repeat values.
        """
        if not torch.compiler.is_compiling():
            self._check_size(*maps[0].shape[-2:])
        if self.kind.endswith("average"):
            return _averages(maps, self.grids)
        if self.kind.endswith("max"):
            return [torch.cat([F.adaptive_max_pool2d(x, grid).flatten(2) for grid in self.grids], dim=2) for x in maps]
        index = self._positions(maps[0])
        return [x.flatten(2).index_select(2, index) for x in maps]

    def _check_size(self, height: int, width: int) -> None:
        if self.kind == "random" and self.count > height * width:
            raise UserError(
                f"points is {self.count}, but the map has {height}x{width} positions; lower points or enlarge the image"
            )
        if not self.training or self.kind == "random":
            return
        if self.count >= height * width:
            raise UserError(
                f"the sampler takes {self.count} points of a map of {height}x{width} positions, which saves nothing;"
                " train on larger crops, lower sizes or points, or use a block without a sampler"
            )
        if any(rows > height or columns > width for rows, columns in self.grids):
            warnings.warn(
                f"a grid of {self.grids} is finer than the {height}x{width} map, so that bins repeat values; train on"
                " larger crops or lower the grid",
                stacklevel=3,
            )

    def _positions(self, x: Tensor) -> Tensor:
        """(S,) indices into the flattened map."""
        height, width = x.shape[-2:]
        if self.kind == "random":
            return self._noise(height * width, x.device).topk(self.count).indices
        chosen = []
        for number, (rows, columns) in enumerate(self.grids):
            noise = self._noise(2 * rows * columns, x.device, stream=number).view(2, rows, columns)
            row = _inside(noise[0], torch.arange(rows, device=x.device)[:, None], size=height, bins=rows)
            column = _inside(noise[1], torch.arange(columns, device=x.device), size=width, bins=columns)
            chosen.append((row * width + column).flatten())
        return torch.cat(chosen)

    def _noise(self, count: int, device: torch.device, stream: int = 0) -> Tensor:
        """(count,) uniform numbers from 0 to below 1: random in training, else integers scrambled with the seed.

        A generator's state would not fit into an exported graph. The scrambler mixes 31 bits by multiplications that
        stay below 2^63, and shifts.
        """
        if self.training:
            return torch.rand(count, device=device)
        bits = torch.arange(count, device=device) + 7919 * self.seed + 104_729 * stream + 1
        for factor in (0x45D9F3B, 0x119DE1F3):
            bits = ((bits ^ (bits >> 15)) * factor) & 0x7FFFFFFF
        return ((bits ^ (bits >> 15)) >> 7).float() / (1 << 24)


def _averages(maps: Sequence[Tensor], grids: Grids) -> list[Tensor]:
    """Separable: each map is read once for all grids, along its rows, which makes it small."""
    height, width = maps[0].shape[-2:]
    rows = torch.cat([pool_matrix(height, rows, maps[0]) for rows, _ in grids])  # (R,H), R rows of all grids
    columns = torch.cat([pool_matrix(width, columns, maps[0]) for _, columns in grids])  # (T,W)
    return [_cut(rows @ (x @ columns.mT), grids) for x in maps]  # (B,C,H,W) -> (B,C,H,T) -> (B,C,R,T)


def _cut(combined: Tensor, grids: Grids) -> Tensor:
    """Rows of each grid with columns of the same grid: (B,C,R,T) -> (B,C,S)."""
    parts, top, left = [], 0, 0
    for rows, columns in grids:
        parts.append(combined[:, :, top : top + rows, left : left + columns].flatten(2))
        top, left = top + rows, left + columns
    return torch.cat(parts, dim=2)


def _inside(noise: Tensor, index: Tensor, *, size: int, bins: int) -> Tensor:
    """One position of each bin, see ``pool_matrix``."""
    first, last = index * size // bins, ((index + 1) * size + bins - 1) // bins
    return first + (noise * (last - first)).long()


def _pyramid(sizes: Sequence[int | Sequence[int]]) -> list[tuple[int, int]]:
    pairs = [[size, size] if isinstance(size, int | float) else [*size] for size in sizes]
    if not pairs or any(len(pair) != 2 or any(side != int(side) or side < 1 for side in pair) for pair in pairs):
        raise UserError(f"sizes is {list(sizes)}; give one or more whole numbers of 1 or more, or pairs of them")
    grids = [(rows, columns) for rows, columns in pairs]
    if len(set(grids)) < len(grids):
        warnings.warn(f"sizes is {list(sizes)}: a size that comes twice adds points but no information", stacklevel=4)
    return grids


def _squarest(points: int) -> tuple[int, int]:
    rows = next(rows for rows in range(math.isqrt(points), 0, -1) if points % rows == 0)
    return rows, points // rows
