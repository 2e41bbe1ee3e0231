"""Learning-rate factors by step. Each schedule gives a function of the step for ``LambdaLR``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from src.errors import UserError

__all__ = ["poly", "warmup_poly"]


def poly(total_steps: int, *, power: float = 0.9, floor: float = 0.0) -> Callable[[int], float]:
    """``max((1 - step / total)^power, floor)``, the decay of DeepLab v2 (section 4.1.1) and of all papers here.

    Args:
        total_steps: optimiser steps of the whole run.
        power: exponent.
        floor: smallest factor.
    """
    return lambda step: max(max(0.0, 1 - step / total_steps) ** power, floor)


def warmup_poly(
    total_steps: int,
    *,
    power: float = 0.9,
    floor: float = 0.0,
    warmup_steps: int = 1000,
    warmup_start: float = 0.1,
    warmup: Literal["linear", "exponential"] = "linear",
) -> Callable[[int], float]:
    """Rises from ``warmup_start`` to 1 over ``warmup_steps``, then ``poly`` over the steps that are left.

    Args:
        total_steps: optimiser steps of the whole run, warm-up included.
        power, floor: of the decay.
        warmup_steps: length of the rise; shortened to a tenth of the run where the run is short.
        warmup_start: first factor.
        warmup: shape of the rise.
    """
    if warmup not in ("linear", "exponential"):
        raise UserError(f"schedule.warmup={warmup} is unknown; use linear or exponential")
    rise = min(warmup_steps, total_steps // 10)
    decay = poly(max(1, total_steps - rise), power=power, floor=floor)

    def factor(step: int) -> float:
        if step >= rise:
            return decay(step - rise)
        share = step / rise
        return warmup_start ** (1 - share) if warmup == "exponential" else warmup_start + (1 - warmup_start) * share

    return factor
