"""What a net costs before it runs, counted without real tensors."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.net import Net

__all__ = ["multiply_adds", "parameters", "parameters_without_aux"]


def multiply_adds(net: Net, size: Sequence[int]) -> tuple[int, dict[str, Tensor]]:
    """Counts those of convolutions and matrix products in ``decode`` of one image of ``size`` (height, width).

    Args:
        net: on the meta device, or else copied there.
        size: of the image in pixels.

    Returns:
        The count, one per pair of factors; and the outputs, on the meta device.
    """
    if any(not each.is_meta for each in net.parameters()):
        net = copy.deepcopy(net).to("meta")
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs = net.decode(torch.empty(1, net.in_channels, *size))
    return counter.get_total_flops() // 2, outputs


def parameters(module: nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameters_without_aux(net: nn.Module) -> int:
    """As ``parameters``, without auxiliary heads, which take no part in a prediction."""
    heads = [part for name, part in net.named_modules() if name.split(".")[-1] in ("aux_head", "aux_heads")]
    return parameters(net) - sum(map(parameters, heads))
