"""Parameter groups: no decay on norms and biases, learning-rate multipliers by part of the net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from src.errors import UserError, nearest

__all__ = ["param_groups"]


def param_groups(
    net: nn.Module, *, lr: float, weight_decay: float, lr_multipliers: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser.

    Vectors and scalars (norm weights, all biases) are not decayed: BiSeNetV2 decays convolution weights only.

    Args:
        net: whose trainable parameters are grouped.
        lr: base learning rate.
        weight_decay: for matrices and kernels.
        lr_multipliers: prefix of parameter names (``head``, ``backbone.layer4``) -> factor on ``lr``; the longest
            matching prefix counts.

    Returns:
        One dict per non-empty group with ``params``, ``lr``, ``weight_decay`` and ``name``.

    Raises:
        UserError: if a prefix matches no parameter.
    """
    multipliers = dict(lr_multipliers or {})
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    used = set()
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = [prefix for prefix in multipliers if name == prefix or name.startswith(f"{prefix}.")]
        part = max(prefixes, key=len, default="")
        used.update(prefixes)
        decayed = parameter.ndim > 1
        group = groups.setdefault(
            (part, decayed),
            {
                "params": [],
                "lr": lr * multipliers.get(part, 1.0),
                "weight_decay": weight_decay if decayed else 0.0,
                "name": (part or "net") + ("" if decayed else "_no_decay"),
            },
        )
        group["params"].append(parameter)
    for prefix in set(multipliers) - used:
        parts = {name for name, _ in net.named_modules() if name}
        raise UserError(
            f"optimizer.lr_multipliers names '{prefix}', which no parameter of the net starts"
            f" with.{nearest(prefix, parts)}"
        )
    return list(groups.values())
