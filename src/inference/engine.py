"""From a net and an image to scores or labels: windows, scales, mirror images, fusion, refinement, in that order."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ..errors import UserError
from ..models.net import Net
from ..ops.resize import resize
from ..ops.scale_fusion import Fusion, fuse
from ..schema.faults import checked
from ..schema.types import Between, Count, Factors
from .input_size import resize_area, seen_size
from .lazy_rows import Mirrored, NetLike, Resized, Rows, net_rows
from .sliding_window import Sliding

__all__ = ["Inference", "top_class"]

Result = TypeVar("Result")
_STRIP = {"cpu": 1 << 21, "cuda": 1 << 26}  # scores of a strip: what stays in a processor's cache, and keeps a GPU busy
_SMALLEST_WINDOW = 256


class Inference:
    """Applies a net to images of any size, at several scales, mirrored, in windows, and refines the result.

    ``scales=[0.5]`` is BiSeNetV2's protocol: the image is halved, the result is brought back to full size. A net with
    scales of its own (``net.scales``) takes no others around them; flipping it is fine. A net of one logit z, class 1
    against class 0, gets the scores of two classes: 0 and z, less the logit of ``threshold``.

    Args:
        scales: factors on the image's size.
        flip: also apply to the mirrored image.
        threshold: probability above which a pixel is class 1, for nets of one logit.
        window: how a scaled image is covered; nothing for all of it at once.
        fuse: how scales and mirror images become one: the mean of their probabilities, or the mean or the maximum of
            their logits.
        refine: ``(rgb, scores) -> scores`` at the image's size, such as ``DenseCRF``; nothing for none.
        short_side, long_side: what scale 1 is, in pixels: the largest size at which neither side is longer than given;
            nothing for the image's own. Scores have the image's size all the same.
        resample: how the image gets to that size: ``"bilinear"`` in one step with the scale, as published code does; or
            ``"area"``, as ``data.eval_long_edge`` does, and from there to the scale.
        multiple: to which the sides of what the net sees are padded with zeros (of aligned corners, to one more): maps
            at 1/32 of other sides do not lie on the image evenly. 1 for none, as most published code.

    Raises:
        UserError: for an empty or non-positive list of scales, a threshold outside (0, 1), an unknown fusion or
            resampling, a multiple or side below 1; and on the first call of a net that has scales of its own, or of one
            with more than one logit beside a threshold other than 0.5.
    """

    @checked("inference")
    def __init__(
        self,
        scales: Factors = (1.0,),
        flip: bool = False,
        threshold: Between = 0.5,
        *,
        window: Sliding | None = None,
        fuse: Fusion = "mean_probabilities",
        refine: Callable[[Tensor, Tensor], Tensor] | None = None,
        multiple: Count = 32,
        short_side: Count | None = None,
        long_side: Count | None = None,
        resample: Literal["bilinear", "area"] = "bilinear",
    ) -> None:
        self.multiple, self.resample = multiple, resample
        self.short_side, self.long_side = short_side, long_side
        self.scales, self.flip, self.threshold, self.fuse = tuple(scales), flip, threshold, fuse
        self.window, self.refine = window or None, refine or None

    def __call__(self, net: NetLike, image: Tensor, rgb: Tensor | None = None) -> Tensor:
        """Scores of every class.

        Args:
            net: see ``src.models.Net``, or anything that gives ``logits`` for an image.
            image: (B,3,H,W) normalised float.
            rgb: (B,3,H,W) uint8, the same image; only ``refine`` needs it.

        Returns:
            (B,K,H,W) float32 whose softmax is the prediction, K 2 for a net of one logit.
        """
        height = image.shape[-2]
        scores = self._in_memory(image, lambda: self._part(self._passes(net, image), 0, height))
        if self.refine is None:
            return scores
        if rgb is None:
            raise ValueError("refinement needs the uint8 image too; give rgb")
        return self.refine(rgb, scores)

    def label(self, net: NetLike, image: Tensor, rgb: Tensor | None = None) -> Tensor:
        """The most probable class of each pixel, (B,H,W) uint8, without the scores of all classes in memory.

        Arguments are those of a call. Refinement needs all scores.
        """
        return self._reduced(net, image, rgb, lambda scores: scores.argmax(1).to(torch.uint8)[None])[0]

    def label_and_confidence(self, net: NetLike, image: Tensor, rgb: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As ``label``, and the probability p of that class as (B,H,W) uint8 floor(255 p).

        Raises:
            UserError: where a score is not a number.
        """
        label, confidence = self._reduced(net, image, rgb, lambda scores: torch.stack(top_class(scores)))
        return label, confidence

    def _reduced(self, net: NetLike, image: Tensor, rgb: Tensor | None, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        """``reduce`` of scores, (B,K,h,W) -> (n,B,h,W), applied strip by strip."""
        if self.refine:
            return reduce(self(net, image, rgb))
        return self._in_memory(image, lambda: torch.cat([reduce(strip) for strip in self._strips(net, image)], dim=2))

    def _strips(self, net: NetLike, image: Tensor, rows: int | None = None) -> Iterator[Tensor]:
        """Scores from top to bottom, ``rows`` at a time."""
        # A pass keeps the maps that the net decodes, at a fraction of the image's size; full-size logits of all
        # classes exist for one strip only.
        passes, (height, width) = self._passes(net, image), image.shape[-2:]
        if rows is None:
            classes = net.num_classes if isinstance(net, Net) else 32  # only the height of a strip depends on it
            rows = max(8, _STRIP.get(image.device.type, _STRIP["cuda"]) // (image.shape[0] * classes * width))
        if rows < height:
            passes = list(passes)  # each strip needs all of them; the whole needs one after the other
        for start in range(0, height, rows):
            yield self._part(passes, start, min(start + rows, height))

    def _part(self, passes: Iterable[Rows], start: int, stop: int) -> Tensor:
        """Scores of some rows."""
        return self._thresholded(self._fused(each(start, stop) for each in passes))

    def seen(self, image: Tensor) -> Tensor:
        """An image (B,3,H,W), normalised, at scale 1."""
        size = self._scaled_size(image.shape[-2:], 1)
        return resize_area(image, size) if self.resample == "area" else resize(image, size)

    def _passes(self, net: NetLike, image: Tensor) -> Iterator[Rows]:
        """Logits of each scale and mirror image, at the image's size."""
        if self.scales != (1,) and isinstance(net, Net) and net.scales:
            raise UserError(
                f"inference.scales={list(self.scales)} would be stacked on the net's own scales {list(net.scales)}; set"
                " inference.scales=[1.0], and change model.scales.scales instead"
            )
        size, cover = image.shape[-2:], self.window or net_rows
        # Two resizes for "area", as validation data are resized first and scaled afterwards; else a single one, since
        # each blurs a little.
        base = self.seen(image) if self.resample == "area" else image
        for scale in self.scales:
            seen = seen_size(base.shape[-2:], scale) if self.resample == "area" else self._scaled_size(size, scale)
            scaled = resize(base, seen)
            # Each pass comes back to the image's size before it is fused, so that scales vote pixel by pixel.
            yield Resized(cover(net, scaled, self.multiple), size)
            if self.flip:
                yield Mirrored(Resized(cover(net, scaled.flip(3), self.multiple), size))

    def _scaled_size(self, size: Sequence[int], scale: float) -> list[int]:
        """Height and width at which the net sees an image of ``size`` at ``scale``."""
        return seen_size(size, scale, short_side=self.short_side, long_side=self.long_side)

    def _fused(self, passes: Iterable[Tensor]) -> Tensor:
        """Maps (B,K,h,W) of all passes as one, computed one after the other; a single one as it is."""
        maps = (self._of_classes(logits) for logits in passes)
        if len(self.scales) == 1 and not self.flip:
            return next(maps)
        return fuse(maps, self.fuse)

    def _of_classes(self, logits: Tensor) -> Tensor:
        """Logits with a channel for each class: those of a single logit z are 0 and z."""
        if logits.shape[1] == 1:
            return torch.cat([torch.zeros_like(logits), logits], dim=1)
        if self.threshold != 0.5:
            raise UserError(
                f"inference.threshold={self.threshold} is for nets of one logit and this one has {logits.shape[1]};"
                " train with experiment=binary, or leave it at 0.5"
            )
        return logits

    def _thresholded(self, scores: Tensor) -> Tensor:
        if self.threshold != 0.5:
            # The softmax of two scores exceeds t where their difference exceeds the logit of t.
            scores[:, 1] -= math.log(self.threshold / (1 - self.threshold))
        return scores

    def _in_memory(self, image: Tensor, work: Callable[[], Result]) -> Result:
        """What ``work`` gives; where the GPU's memory ends, with windows from then on, smaller until they fit."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if max(size := self._smaller(image)) < _SMALLEST_WINDOW:
                    raise
            # Outside of the except block: there the exception would still hold the tensors of the failed try.
            self.window = Sliding(size)
            warnings.warn(
                f"an image of {image.shape[-2]}x{image.shape[-1]} does not fit into the GPU's memory: from here on in"
                f" windows of {size[0]}x{size[1]}, which may change scores a little; inference/window=sliding"
                f" 'inference.window.size=[{size[0]},{size[1]}]' does so from the start",
                stacklevel=2,
            )

    def _smaller(self, image: Tensor) -> tuple[int, int]:
        """Half the sides that the net last saw at most, as multiples of 32."""
        largest = self.window.size if self.window else self._scaled_size(image.shape[-2:], max(self.scales))
        height, width = (max(32, 32 * round(side / 64)) for side in largest)
        return height, width


def top_class(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable class of each pixel, and how probable it is.

    Args:
        scores: (B,K,H,W) float, whose softmax is the prediction.

    Returns:
        (B,H,W) uint8 class and (B,H,W) uint8 floor(255 p) of its softmax probability p.

    Raises:
        UserError: where a score is not a number.
    """
    scores = scores.float()
    top, label = scores.max(1)
    total = (scores - top[:, None]).exp_().sum(1)  # the softmax's divisor
    if not torch.compiler.is_exporting() and not bool(total.isfinite().all()):
        raise UserError(
            "the net's scores are not finite; its weights are broken, or trainer.precision is too low for them"
        )
    return label.to(torch.uint8), (255 / total).to(torch.uint8)
