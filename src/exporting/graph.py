"""From uint8 images to a class map in one graph."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError as DynamoUserError

from ..errors import UserError
from ..inference import Inference, top_class
from ..models.net import Net
from ..models.normalize import Normalize

__all__ = ["LAYOUTS", "OUTPUTS", "PRECISIONS", "Deployed", "Traced", "trace"]

OUTPUTS = {"label": ["label"], "scores": ["scores"], "label_and_confidence": ["label", "confidence"]}  # names, in order
LAYOUTS = ("nchw", "nhwc")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
_STEP = 32  # sides are multiples of, where a net's graph cannot be free of their rest


class Deployed(nn.Module):
    """Normalisation, net, inference and arg-max.

    Args:
        net: in evaluation mode; it is copied.
        normalize: goes before the net; copied as well.
        inference: of the whole image, without refinement.
        output: ``"label"`` (B,H,W) uint8; ``"scores"`` (B,K,H,W) float32 whose softmax is the prediction; or
            ``"label_and_confidence"``: the label, and floor(255 p) of its probability p as (B,H,W) uint8.
        layout: of the uint8 RGB images, ``"nchw"`` or ``"nhwc"``.
        precision: of weights and maps, ``"fp32"`` or ``"fp16"``; scores are float32.

    Raises:
        UserError: for windows or refinement, which no graph can hold.
    """

    net: Net
    normalize: Normalize

    def __init__(
        self,
        net: Net,
        normalize: Normalize,
        inference: Inference,
        *,
        output: str = "label",
        layout: str = "nchw",
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if inference.window is not None:
            raise UserError("inference/window=sliding cannot be part of a file; export with inference/window=whole")
        if inference.refine is not None:
            raise UserError("inference/refine=crf cannot be part of a file; export with inference/refine=none")
        self.output, self.layout, self.precision, self.inference = output, layout, precision, inference
        self.dtype = PRECISIONS[precision]
        own = copy.deepcopy(net).to(dtype=self.dtype)
        own.to(memory_format=torch.contiguous_format)  # pyrefly: ignore[no-matching-overload]  # torch's stubs lack it
        self.net = own.eval()
        self.normalize = copy.deepcopy(normalize)
        self.normalize.memory_format = torch.contiguous_format

    @property
    def least_side(self) -> int:
        """Pixels from which on a side may be anything.

        A map of one pixel is a special case that torch would build into the graph, so none may become that small.
        """
        least = max(_STEP, self.net.backbone.min_size if self.net.backbone else 0) + 1
        return math.ceil(least / min(1, *self.inference.scales, *self.net.scales))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        image = image.to(torch.float32)  # first of all: TensorRT takes uint8 as an input only
        if self.layout == "nhwc":
            image = image.permute(0, 3, 1, 2)
        scores = self.inference(self.net, self.normalize(image).to(self.dtype))
        if self.output == "scores":
            return scores
        return scores.argmax(1).to(torch.uint8) if self.output == "label" else top_class(scores)


@dataclass(frozen=True)
class Traced:
    """A graph and the sizes it takes.

    Args:
        program: the graph.
        size: height and width; nothing for all sizes from ``least`` on, in steps of ``step`` (plus ``extra``).
        batch: number of images; nothing for any.
    """

    program: torch.export.ExportedProgram
    size: tuple[int, int] | None
    least: int
    step: int
    extra: int
    batch: int | None = None

    @property
    def sizes(self) -> str:
        """In words."""
        if self.size:
            return f"{self.size[0]}x{self.size[1]}"
        words = f"any from {self.least}x{self.least} on"
        plus = f" plus {self.extra}" if self.extra else ""
        return words if self.step == 1 else f"{words}, sides multiples of {self.step}{plus}"

    def fitting(self, height: int, width: int) -> tuple[int, int]:
        """The size nearest to one that is taken."""
        if self.size:
            return self.size
        height, width = (self.extra + self.step * round((side - self.extra) / self.step) for side in (height, width))
        return max(self.least, height), max(self.least, width)


def trace(deployed: Deployed, *, size: Sequence[int] | None = None, batch: int | None = None) -> Traced:
    """The graph of ``deployed``.

    Images of any size are padded inside the graph as ``inference.multiple`` says. Where the graph of a net cannot be
    free of a side's rest by 32, it takes multiples of 32 only.

    Args:
        deployed: what to trace.
        size: height and width of the images; nothing for all sizes.
        batch: number of images; nothing for any.

    Raises:
        UserError: for a net that cannot be traced.
    """
    if size:
        height, width = size
        return Traced(_export(deployed, (height, width), batch, None), (height, width), min(size), 1, 0, batch)
    least = deployed.least_side
    extra = int(deployed.inference.multiple > 1 and deployed.net.align_corners)
    whole = _STEP * math.ceil((least - extra) / _STEP) + extra
    failed: Exception | None = None
    for step, first in ((1, least), (_STEP, whole)):
        try:
            program = _export(deployed, (whole + _STEP, whole + 2 * _STEP), batch, (step, first, extra))
            return Traced(program, None, first, step, extra if step > 1 else 0, batch)
        except (DynamoUserError, ValueError) as error:  # torch raises both where sizes turn out special
            failed = error
    raise UserError("this net cannot be exported for all sizes; give one, such as 'size=[512,1024]'") from failed


def _export(
    deployed: Deployed, size: tuple[int, int], batch: int | None, free: tuple[int, int, int] | None
) -> torch.export.ExportedProgram:
    """``free`` are step, least value and extra of the sides, where they are not those of ``size``."""
    shape = (3, *size) if deployed.layout == "nchw" else (*size, 3)
    example = torch.zeros(batch or 2, *shape, dtype=torch.uint8)  # torch takes the number 1 for a constant
    dims = {0: torch.export.Dim("batch")} if batch is None else {}
    if free:
        step, least, extra = free
        for axis, name in zip((2, 3) if deployed.layout == "nchw" else (1, 2), ("height", "width"), strict=True):
            if step == 1:
                dims[axis] = torch.export.Dim(name, min=least)
            else:
                side = step * torch.export.Dim(name, min=math.ceil((least - extra) / step))
                dims[axis] = side + extra if extra else side
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(deployed, (example,), dynamic_shapes={"image": dims or None})
