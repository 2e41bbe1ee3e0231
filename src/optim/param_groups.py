"""Parameter groups: what is decayed, and learning-rate multipliers by part of the net and for biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from ..errors import UserError, nearest
from ..schema.faults import checked
from ..schema.types import NotNegative

__all__ = ["param_groups"]


@checked("optimizer")
def param_groups(
    net: nn.Module,
    *,
    lr: NotNegative,
    weight_decay: NotNegative,
    decay_on: Literal["kernels", "all"] = "kernels",
    lr_multipliers: Mapping[str, NotNegative] | None = None,
    bias_lr_multiplier: NotNegative = 1.0,
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser.

    Args:
        net: whose trainable parameters are grouped.
        lr: base learning rate.
        weight_decay: of what is decayed.
        decay_on: ``"kernels"`` decays no norms and no biases (BiSeNetV2, section 5.1; Caffe's recipes of FCN and
            DeepLab v1 and v2); ``"all"`` decays them too (mmsegmentation).
        lr_multipliers: prefix of parameter names (``head``, ``backbone.layer4``) -> factor on ``lr``; the longest
            matching prefix counts. Names are those of the net itself, whether or not it is inside scales.
        bias_lr_multiplier: further factor for biases of convolutions and linear layers (2 in Caffe's recipes).

    Returns:
        One dict per non-empty group with ``params``, ``lr``, ``weight_decay`` and ``name``.

    Raises:
        UserError: for a prefix that matches no parameter, a negative factor, or another ``decay_on``.
    """
    multipliers = dict(lr_multipliers or {})
    biases = _biases(net) if bias_lr_multiplier != 1 else set()
    groups: dict[tuple[str, bool, bool], dict[str, Any]] = {}
    used = set()
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = [prefix for prefix in multipliers if _starts(name, prefix)]
        part = max(prefixes, key=len, default="")
        used.update(prefixes)
        bias, decayed = name in biases, decay_on == "all" or parameter.ndim > 1
        group = groups.setdefault(
            (part, bias, decayed),
            {
                "params": [],
                "lr": lr * multipliers.get(part, 1.0) * (bias_lr_multiplier if bias else 1.0),
                "weight_decay": weight_decay if decayed else 0.0,
                "name": (part or "net") + ("_bias" if bias else "") + ("" if decayed else "_no_decay"),
            },
        )
        group["params"].append(parameter)
    for prefix in set(multipliers) - used:
        parts = {name.removeprefix("net.") for name, _ in net.named_modules() if name}
        raise UserError(
            f"optimizer.lr_multipliers names '{prefix}', which no trained parameter of the net starts"
            f" with.{nearest(prefix, parts)}"
        )
    return list(groups.values())


def _starts(name: str, prefix: str) -> bool:
    """Whether a parameter lies in a part; a net inside scales is their ``net``."""
    return any(f"{each}.".startswith(f"{prefix}.") for each in (name, name.removeprefix("net.")))


def _biases(net: nn.Module) -> set[str]:
    """Names of the biases beside kernels; those of norms are beside vectors."""
    parameters = dict(net.named_parameters())
    weights = [name for name, each in parameters.items() if f".{name}".endswith(".weight") and each.ndim > 1]
    return {f"{name.removesuffix('weight')}bias" for name in weights} & parameters.keys()
