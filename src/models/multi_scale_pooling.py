"""Pooled scales around any net: it sees the image at several sizes, and its outputs are fused pixel by pixel.

DeepLab v2's multi-scale inputs (arXiv 1606.00915, section 4.1) take the maximum of the scores at the size of the
unscaled image's; each scale is supervised too. Average and maximum pooling at the image's size are the baselines of
hierarchical multi-scale attention (Tao et al., arXiv 2005.10821, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..ops.resize import resize
from ..ops.scale_fusion import combine, fuse, mean_log_probabilities
from ..schema.faults import checked
from ..schema.types import Count, Factors
from .multi_scale import MultiScale, check_scaled_size, own_predictions
from .net import Net

__all__ = ["PooledScales"]


class PooledScales(MultiScale):
    """One net on several scales of the image, in training and evaluation.

    Every output of the net, auxiliary heads included, is fused over the scales in the same way; ``features`` are those
    of scale 1. Sides of scaled images are rounded down.

    Args:
        net: the net, shared by all scales.
        scales: factors on the image's size, in any order; 1.0 must be among them.
        fuse: ``"max"`` or ``"mean"`` of the logits, or ``"mean_probabilities"``, whose logarithm is then the output.
        at: where maps of different scales meet: at the size of scale 1's map (``"logits"``) or of the ``"image"``.
        supervise: in training, also give the logits of each scale s at their own size, as ``aux_scale_<100 s>``.
        min_side: smallest side in pixels of a scaled image.

    Raises:
        UserError: for values outside these limits, and for an image with a side below ``min_side`` at some scale.
    """

    @checked("model.scales")
    def __init__(
        self,
        *,
        net: Net,
        scales: Factors = (0.5, 0.75, 1.0),
        fuse: Literal["max", "mean", "mean_probabilities"] = "max",
        at: Literal["logits", "image"] = "logits",
        supervise: bool = False,
        min_side: Count = 32,
    ) -> None:
        super().__init__(net, scales, supervise=supervise, reduced_labels=net.reduced_labels)
        if fuse == "mean_probabilities" and net.num_classes == 1:
            raise UserError("fuse is 'mean_probabilities', which a net of one logit does not give; use mean or max")
        self.fuse, self.at, self.min_side = fuse, at, min_side
        net.min_size = min(net.min_size, min_side)

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        """Fused outputs, and those of each scale where they are supervised."""
        each = self._each(image)
        features = [outputs.pop("features") for outputs in each.values()]
        fused = {"features": features[self.scales.index(1)]}
        for name, unscaled in each[1].items():
            size = (unscaled if self.at == "logits" else image).shape[-2:]
            maps = [resize(outputs[name], size, align_corners=self.align_corners) for outputs in each.values()]
            fused[name] = self._fuse(*maps)
        if self.training and self.supervise:
            fused |= own_predictions(self.scales, [outputs["logits"] for outputs in each.values()])
        return fused

    def full_size_logits(
        self, image: Tensor, *, resize: Callable[..., Any] = resize, combine: Callable[..., Any] = combine
    ) -> Any:
        each, full = self._each(image), image.shape[-2:]
        size = each[1]["logits"].shape[-2:] if self.at == "logits" else full
        maps = [resize(outputs["logits"], size, align_corners=self.align_corners) for outputs in each.values()]
        return resize(combine(self._fuse, *maps), full, align_corners=self.align_corners)

    def _each(self, image: Tensor) -> dict[float, dict[str, Tensor]]:
        """The net's outputs at each scale."""
        self.check(image)
        check_scaled_size(image, self.scales[0], least=self.min_side)
        return {scale: self.net.decode(self._scaled(image, scale)) for scale in self.scales}

    def _scaled(self, image: Tensor, scale: float) -> Tensor:
        """(B,C,H,W) -> (B,C,floor(scale H),floor(scale W)), sampled at the given factor, not at that of the sizes."""
        if scale == 1:
            return image
        return F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=self.align_corners)

    def _fuse(self, *maps: Tensor) -> Tensor:
        """Maps of one size -> one of that size."""
        return mean_log_probabilities(maps) if self.fuse == "mean_probabilities" else fuse(maps, self.fuse)
