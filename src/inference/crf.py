"""The fully connected CRF of DeepLab v1 and v2 (arXiv 1210.5644, 1412.7062, 1606.00915)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..schema.faults import call_faults
from ..schema.types import Between, Count, NotNegative, Positive
from .permutohedral import Permutohedral

__all__ = ["DenseCRF"]

Filter = Callable[[Tensor], Tensor]
NORMALIZATIONS = ("symmetric", "before", "after", "none")
MOST_EXACT_PIXELS = 10_000  # two matrices of 400 MB


@dataclass(frozen=True, kw_only=True)
class DenseCRF:
    """Mean-field inference with a smoothness and an appearance kernel between all pairs of pixels.

    Q = softmax(-U - sum_m w_m mu K_m Q), begun with Q = softmax(-U), where U is minus the logarithm of the scores'
    softmax, K_m a normalised Gaussian kernel and mu the cost of two labels. A pixel is its own neighbour.

    Args:
        gaussian_weight: w of the kernel over positions.
        gaussian_std: its standard deviation, pixels.
        bilateral_weight: w of the kernel over positions and colours.
        bilateral_std_xy: its standard deviation over positions, pixels.
        bilateral_std_rgb: its standard deviation over colours, 0 to 255.
        iterations: number of updates.
        normalization: D^-1/2 K D^-1/2, K D^-1, D^-1 K, or K over the mean of D, with D the row sums of K.
        compatibility: mu, (K,K), of which only the symmetric part counts; nothing for 0 between a label and itself and
            1 between two labels (Potts).
        clip: least probability of a class.
        exact: evaluate all pairs of pixels, for small images only; else on the permutohedral lattice.
        search: values of weights and standard deviations, by name, that evaluation tries on validation images.
        search_method: vary one option at a time, or try all combinations; see ``src.evaluation.crf_search``.

    Raises:
        UserError: for an option out of its range.
    """

    gaussian_weight: NotNegative
    gaussian_std: Positive
    bilateral_weight: NotNegative
    bilateral_std_xy: Positive
    bilateral_std_rgb: Positive
    iterations: Count = 10
    normalization: Literal["symmetric", "before", "after", "none"] = "symmetric"
    compatibility: Sequence[Sequence[float]] | None = None
    clip: Between = 1e-5
    exact: bool = False
    search: Mapping[str, Sequence[float]] | None = None
    search_method: Literal["coordinate", "grid"] = "coordinate"

    def __post_init__(self) -> None:
        if found := call_faults(type(self), vars(self)):
            raise UserError(f"inference.refine.{found[0]}")

    @torch.no_grad()
    def __call__(self, rgb: Tensor, scores: Tensor) -> Tensor:
        """Logarithms of the marginals.

        Args:
            rgb: (B,3,H,W) uint8, in the order in which the net was trained.
            scores: (B,K,H,W) float, whose softmax is the prediction.

        Returns:
            (B,K,H,W) float32 on the scores' device; softmax gives the marginals.

        Raises:
            UserError: for shapes or types other than these, scores that are not finite, a compatibility of another
                size, or an image too large for ``exact``.
        """
        self._check_image(rgb, scores)
        cost = self._cost(scores)
        with torch.autocast(scores.device.type, enabled=False):
            # Positions are those of every image in the batch, so their kernel is made once; colours differ.
            smoothness = self._kernel(_positions(rgb, self.gaussian_std).to(scores.device), self.gaussian_weight)
            return torch.stack([self._refine(smoothness, cost, *each) for each in zip(rgb, scores, strict=True)])

    def _refine(self, smoothness: Filter | None, cost: Tensor | None, rgb: Tensor, scores: Tensor) -> Tensor:
        """(3,H,W) uint8 and (K,H,W) -> (K,H,W)."""
        colours = rgb.flatten(1).to(scores.device, torch.float32) / self.bilateral_std_rgb
        points = torch.cat([_positions(rgb, self.bilateral_std_xy).to(scores.device), colours])
        kernels = [smoothness, self._kernel(points, self.bilateral_weight)]
        # Unary terms: without the least probability, no message could change the label of a pixel that is certain.
        likely = scores.float().flatten(1).T.softmax(1).clamp_(min=self.clip).log_()
        state = likely
        for _ in range(self.iterations):
            # The mean-field update replaces Q as a whole: unary terms plus all messages, not a step from the last Q.
            probs, state = state.softmax(1), likely
            for kernel in filter(None, kernels):
                message = kernel(probs)
                state = (message if cost is None else message @ -cost).add_(state)
        return state.log_softmax(1).T.reshape(scores.shape)

    def _kernel(self, points: Tensor, weight: float) -> Filter | None:
        """(d,N) points -> (N,C) -> (N,C), weighted and normalised; nothing for a weight of 0."""
        if weight == 0:
            return None
        kernel: Filter = _dense(points) if self.exact else Permutohedral.of(points)
        # Row sums of the kernel: pixels at the border or of rare colours have few neighbours, whose messages would
        # otherwise weigh less against the unary terms.
        sums = kernel(torch.ones_like(points[:1]).T).flatten()
        same = torch.full_like(sums, weight)
        scales = {
            "symmetric": (sums.rsqrt(), weight * sums.rsqrt()),
            "before": (1 / sums, same),
            "after": (torch.ones_like(sums), weight / sums),
            "none": (torch.ones_like(sums), same / sums.mean()),
        }
        before, after = scales[self.normalization]  # diagonal matrices on both sides of K
        if isinstance(kernel, Permutohedral):
            return kernel.scaled(before, after)
        return lambda values: after[:, None] * kernel(before[:, None] * values)

    def _cost(self, scores: Tensor) -> Tensor | None:
        if self.compatibility is None:
            return None
        classes = scores.shape[1]
        try:
            matrix = torch.tensor(self.compatibility, dtype=torch.float32)
        except (TypeError, ValueError):
            matrix = torch.full((), math.nan)
        if matrix.shape != (classes, classes) or not matrix.isfinite().all():
            raise UserError(
                f"inference.refine.compatibility must hold {classes} rows of {classes} finite numbers, one for each"
                " pair of classes; correct it, or set it to null for the Potts model"
            )
        # Every pair of pixels is counted in both orders, so an antisymmetric part would cancel.
        return ((matrix + matrix.T) / 2).to(scores.device)

    def _check_image(self, rgb: Tensor, scores: Tensor) -> None:
        batch, _, *size = scores.shape if scores.ndim == 4 else (0, 0, 0, 0)
        if rgb.dtype != torch.uint8 or rgb.shape != (batch, 3, *size) or not scores.is_floating_point():
            raise UserError(
                f"inference.refine needs an image (B,3,H,W) of uint8 and scores (B,K,H,W) of floats, and got"
                f" {tuple(rgb.shape)} of {rgb.dtype} and {tuple(scores.shape)} of {scores.dtype}"
            )
        if not scores.isfinite().all():
            raise UserError("inference.refine got scores that are not finite; does the net diverge?")
        if self.exact and size[0] * size[1] > MOST_EXACT_PIXELS:
            raise UserError(
                f"inference.refine.exact=true is for images of at most {MOST_EXACT_PIXELS:,} pixels and this one has"
                f" {size[0]}x{size[1]}; set inference.refine.exact=false"
            )


def _dense(points: Tensor) -> Filter:
    distances = torch.cdist(points.T, points.T, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.square_().mul_(-0.5).exp_().matmul


def _positions(image: Tensor, std: float) -> Tensor:
    """(2,H*W) float32: x and y of the pixels of (...,H,W), over ``std``."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).flatten(1) / std
