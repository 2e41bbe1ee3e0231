"""Inference over scales and flips."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from src.errors import UserError
from src.ops import resize

__all__ = ["Inference"]


class Inference:
    """Applies a net at several scales, optionally mirrored, and averages the probabilities.

    ``scales=[0.5]`` is BiSeNetV2's protocol: the image is halved, the result is brought back to full size. A net with
    scales of its own (``net.scales``) takes no others around them; flipping it is fine. A net of one logit z, class 1
    against class 0, gets the scores of two classes: 0 and z, less what ``threshold`` asks for.

    Args:
        scales: factors on the image's size.
        flip: also apply to the mirrored image.
        threshold: probability above which a pixel is class 1, for nets of one logit.

    Raises:
        UserError: for an empty or non-positive list of scales, a threshold outside (0, 1), and on the first call of a
            net that has scales of its own, or more than one logit beside a threshold other than 0.5.
    """

    def __init__(self, scales: Sequence[float] = (1.0,), flip: bool = False, threshold: float = 0.5) -> None:
        if not scales or min(scales) <= 0:
            raise UserError(f"inference.scales={list(scales)} must hold at least one factor above 0")
        if not 0 < threshold < 1:
            raise UserError(f"inference.threshold={threshold} is a probability and must lie in (0, 1)")
        self.scales = tuple(scales)
        self.flip = flip
        self.threshold = threshold

    def __call__(self, net: Callable[[Tensor], Mapping[str, Tensor]], image: Tensor) -> Tensor:
        """(B,3,H,W) normalised float -> (B,K,H,W) scores, K 2 for a net of one logit."""
        size = image.shape[-2:]
        passes = [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))]
        if len(passes) == 1:
            scores = self._scores(net, image, size, *passes[0])
        else:
            probs = sum(self._scores(net, image, size, *each).float().softmax(1) for each in passes) / len(passes)
            scores = probs.clamp_(min=torch.finfo(torch.float32).tiny).log_()
        if self.threshold != 0.5:
            scores[:, 1] -= math.log(self.threshold / (1 - self.threshold))
        return scores

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
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        elif self.threshold != 0.5:
            raise UserError(
                f"inference.threshold={self.threshold} is for nets of one logit and this one has {scores.shape[1]};"
                " train with experiment=binary, or leave it at 0.5"
            )
        return scores.flip(3) if mirrored else scores
