"""Inference over scales and flips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from src.errors import UserError
from src.ops import resize

__all__ = ["Inference"]


class Inference:
    """Applies a net at several scales, optionally mirrored, and averages the probabilities.

    ``scales=[0.5]`` is BiSeNetV2's protocol: the image is halved, the result is brought back to full size. A net with
    scales of its own (``net.scales``) takes no others around them; flipping it is fine.

    Args:
        scales: factors on the image's size.
        flip: also apply to the mirrored image.

    Raises:
        UserError: for an empty or non-positive list of scales, and on the first call of a net that has its own.
    """

    def __init__(self, scales: Sequence[float] = (1.0,), flip: bool = False) -> None:
        if not scales or min(scales) <= 0:
            raise UserError(f"inference.scales={list(scales)} must hold at least one factor above 0")
        self.scales = tuple(scales)
        self.flip = flip

    def __call__(self, net: Callable[[Tensor], Mapping[str, Tensor]], image: Tensor) -> Tensor:
        """(B,3,H,W) normalised float -> (B,K,H,W) scores."""
        size = image.shape[-2:]
        passes = [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))]
        if len(passes) == 1:
            return self._scores(net, image, size, *passes[0])
        probs = sum(self._scores(net, image, size, *each).float().softmax(1) for each in passes) / len(passes)
        return probs.clamp_(min=torch.finfo(torch.float32).tiny).log_()

    def _scores(
        self,
        net: Callable[[Tensor], Mapping[str, Tensor]],
        image: Tensor,
        size: torch.Size,
        scale: float,
        mirrored: bool,
    ) -> Tensor:
        scaled = resize(image, [max(32, round(side * scale)) for side in size]) if scale != 1 else image
        if self.scales != (1,) and (own := getattr(net, "scales", None)):
            raise UserError(
                f"inference.scales={list(self.scales)} would be stacked on the net's own scales {list(own)}; set"
                " inference.scales=[1.0], and change model.scales.scales instead"
            )
        outputs = net(scaled.flip(3) if mirrored else scaled)
        scores = resize(outputs["logits"], size)
        return scores.flip(3) if mirrored else scores
