"""Whether a file does what the net does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Agreement", "compare"]


@dataclass(frozen=True)
class Agreement:
    """Outputs of a file beside the net's.

    Args:
        share: of pixels with the same class.
        pixels: that were compared.
        difference: the largest, of what ``measure`` says.
        measure: ``"scores"``; ``"confidence"`` (probability); or where only labels come out ``"margin"``: by how much
            the net's score of its own class exceeds that of the file's class.
    """

    share: float
    pixels: int
    difference: float
    measure: str


def compare(
    run: Callable[[np.ndarray], list[np.ndarray]],
    scores: Callable[[Tensor], Tensor],
    batches: Iterable[np.ndarray],
    *,
    output: str,
    layout: str,
) -> Agreement:
    """The file on images beside the eager net in float32.

    Args:
        run: the file, see ``runner``.
        scores: (B,3,H,W) uint8 -> (B,K,H,W) float32 whose softmax is the prediction.
        batches: (B,H,W,3) uint8 RGB each.
        output, layout: see ``Deployed``.
    """
    equal = pixels = 0
    largest = 0.0
    for images in batches:
        first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        found = [torch.from_numpy(each) for each in run(first if layout == "nchw" else images)]
        with torch.no_grad():
            wanted = scores(torch.from_numpy(first))
        top, label = wanted.max(1)
        given = found[0].argmax(1) if output == "scores" else found[0].long()
        equal += int((given == label).sum())
        pixels += label.numel()
        largest = max(largest, float(_difference(output, found, wanted, top, given).max()))
    measure = {"scores": "scores", "label": "margin"}.get(output, "confidence")
    return Agreement(equal / pixels, pixels, largest, measure)


def _difference(output: str, found: list[Tensor], wanted: Tensor, top: Tensor, given: Tensor) -> Tensor:
    if output == "scores":
        return (found[0] - wanted).abs().nan_to_num(torch.inf)
    if output == "label":
        known = given.clamp(max=wanted.shape[1] - 1)
        return top - wanted.gather(1, known[:, None])[:, 0]
    return (found[1].float() - (255 * wanted.softmax(1).amax(1)).floor()).abs() / 255
