"""From stored pixels to what a net expects, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError

__all__ = ["Normalize"]


class Normalize(nn.Module):
    """(B,3,H,W) uint8 RGB -> float32 as the net expects it, on the device: less mean, over std, in its channel order.

    Caffe's nets, which expect 0..255 less a mean in the order BGR, have ``std`` 1/255 and ``channel_order="bgr"``.

    Args:
        mean: of red, green and blue, 0..1.
        std: of red, green and blue, 0..1.
        channel_order: ``"rgb"`` or ``"bgr"``, of the result.
        memory_format: of the result.

    Raises:
        UserError: for other statistics, those of 0..255 included, and for another order.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        channel_order: str = "rgb",
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or not all(0 <= m <= 1 for m in mean) or not all(0 < s <= 1 for s in std):
            raise UserError(
                f"data.mean={list(mean)} and data.std={list(std)} must be three numbers each, in 0..1 (divide"
                " statistics of 0..255 by 255; a std of 1 there is 0.003922), and std above 0"
            )
        if channel_order not in ("rgb", "bgr"):
            raise UserError(f"data.channel_order={channel_order} is unknown; use rgb or bgr")
        self.channel_order = channel_order
        step = 1 if channel_order == "rgb" else -1
        self.register_buffer("mean", 255 * torch.tensor(list(mean)[::step]).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(list(std)[::step]).view(1, -1, 1, 1))
        self.memory_format = memory_format

    def forward(self, image: Tensor) -> Tensor:
        image = image.flip(1) if self.channel_order == "bgr" else image
        return image.to(torch.float32, memory_format=self.memory_format).sub_(self.mean).div_(self.std)
