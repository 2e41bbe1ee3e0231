"""Whether an exported file does what the net does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .graph import Traced

__all__ = ["Agreement", "batches_of", "compare"]

_LONGEST = 1024  # side of an image that the file is checked on, where it takes any size


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

    def check(self, least: float, *, precision: str) -> None:
        """Refuses a file that does not do what the net does.

        Args:
            least: share of pixels that must have the net's class.
            precision: of the file, for the advice.

        Raises:
            UserError: with the figures, if the share is smaller or no number.
        """
        if not self.share >= least:
            remedy = "try precision=fp32" if precision != "fp32" else "try another format="
            raise UserError(
                f"the exported file gives another class than the net on {100 * (1 - self.share):.3g} % of"
                f" {self.pixels:,} pixels (largest difference of {self.measure} {self.difference:.3g}), more than"
                f" min_agreement={least} allows, and was deleted; {remedy}, or lower min_agreement="
            )


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


def batches_of(images: Sequence[np.ndarray], traced: Traced) -> Iterator[np.ndarray]:
    """(B,H,W,3) uint8: images one by one; where sizes and batches are free also at another, odd size, two at once.

    Args:
        images: (H,W,3) uint8 RGB, resized to what the graph takes.
        traced: the graph.
    """
    height, width = images[0].shape[:2]
    scale = min(1, _LONGEST / max(height, width))
    sizes = [traced.fitting(round(scale * height), round(scale * width))]
    if not traced.size:
        sizes.append(traced.fitting(round(0.7 * scale * height) | 1, round(0.6 * scale * width) | 1))
    for number, (height, width) in enumerate(sizes):
        resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
        together = traced.batch or 1 + number
        resized += resized[:1] * (-len(resized) % together)  # fills up the last batch
        for start in range(0, len(resized), together):
            yield np.stack(resized[start : start + together])


def _difference(output: str, found: list[Tensor], wanted: Tensor, top: Tensor, given: Tensor) -> Tensor:
    if output == "scores":
        return (found[0] - wanted).abs().nan_to_num(torch.inf)
    if output == "label":
        known = given.clamp(max=wanted.shape[1] - 1)
        return top - wanted.gather(1, known[:, None])[:, 0]
    return (found[1].float() - (255 * wanted.softmax(1).amax(1)).floor()).abs() / 255
