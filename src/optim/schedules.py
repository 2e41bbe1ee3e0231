"""Learning-rate factors by step. Each schedule gives a function of the step for ``LambdaLR``.

All begin with the same two arguments, which the run knows: optimiser steps in all, and in one epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..schema.faults import checked
from ..schema.types import Count, NotNegative, Positive, Share, Whole

__all__ = ["constant", "poly", "step", "warmup_poly"]

Factor = Callable[[int], float]


def constant(total_steps: int, steps_per_epoch: int) -> Factor:
    """1 at every step."""
    return lambda step: 1.0


@checked("schedule")
def poly(
    total_steps: int,
    steps_per_epoch: int,
    *,
    power: NotNegative = 0.9,
    floor: Share = 0.0,
    every: Count | Literal["epoch"] = 1,
) -> Factor:
    """``(1 - floor) * (1 - step / total)^power + floor``, the decay of DeepLab v2 (section 4.1.1) and most papers here.

    Args:
        total_steps: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one epoch.
        power: exponent, 0 or more.
        floor: factor at the end (mmsegmentation's ``eta_min`` over the rate).
        every: steps after which the factor changes, 10 in kazuto1011/deeplab-pytorch, or ``"epoch"`` for hierarchical
            multi-scale attention.

    Raises:
        UserError: for values outside these limits.
    """
    held = _steps(every, steps_per_epoch)

    def factor(step: int) -> float:
        left = max(0.0, 1 - step // held * held / total_steps)
        return (1 - floor) * left**power + floor

    return factor


@checked("schedule")
def warmup_poly(
    total_steps: int,
    steps_per_epoch: int,
    *,
    power: NotNegative = 0.9,
    floor: Share = 0.0,
    warmup_steps: Whole = 1000,
    warmup_start: Share = 0.1,
    warmup: Literal["linear", "exponential"] = "linear",
) -> Factor:
    """Rises from ``warmup_start`` to 1 over ``warmup_steps``, then ``poly`` over the steps that are left.

    Args:
        total_steps: optimiser steps of the whole run, warm-up included.
        steps_per_epoch: optimiser steps of one epoch.
        power, floor: of the decay.
        warmup_steps: length of the rise; shortened to a tenth of the run where the run is short.
        warmup_start: first factor.
        warmup: shape of the rise.

    Raises:
        UserError: for an unknown shape, and as ``poly``.
    """
    rise = min(warmup_steps, total_steps // 10)
    decay = poly(max(1, total_steps - rise), steps_per_epoch, power=power, floor=floor)

    def factor(step: int) -> float:
        if step >= rise:
            return decay(step - rise)
        share = step / rise
        return warmup_start ** (1 - share) if warmup == "exponential" else warmup_start + (1 - warmup_start) * share

    return factor


@checked("schedule")
def step(
    total_steps: int, steps_per_epoch: int, *, factor: Positive = 0.1, every: Count | Literal["epoch"] = 2000
) -> Factor:
    """``factor^(step // every)``, the decay of DeepLab v1 (arXiv 1412.7062, section 4.1).

    Args:
        total_steps: optimiser steps of the whole run.
        steps_per_epoch: optimiser steps of one epoch.
        factor: above 0, on the rate each time.
        every: steps between them, or ``"epoch"``.

    Raises:
        UserError: for values outside these limits.
    """
    held = _steps(every, steps_per_epoch)
    return lambda step: factor ** (step // held)


def _steps(every: int | Literal["epoch"], steps_per_epoch: int) -> int:
    """Steps between two changes of the rate."""
    return every if isinstance(every, int) else steps_per_epoch
