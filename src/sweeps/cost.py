"""What the nets of a sweep's rows cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Cost", "Costs"]


@dataclass(frozen=True)
class Cost:
    """Of one image: ``parameters`` without auxiliary heads, ``multiply_adds``, and ``seconds`` of each timed run."""

    parameters: int
    multiply_adds: int
    seconds: tuple[float, ...] = ()

    @property
    def milliseconds(self) -> float | None:
        """The median run."""
        return 1000 * statistics.median(self.seconds) if self.seconds else None

    @property
    def quartiles(self) -> tuple[float, float]:
        """Milliseconds that a quarter of the runs stay below, and a quarter above."""
        if len(self.seconds) < 2:
            return (self.milliseconds or 0.0,) * 2
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return 1000 * low, 1000 * high


@dataclass(frozen=True)
class Costs:
    """``of`` each row by its index; ``timed`` says how and on what the runs were timed, or why they were not."""

    of: Mapping[int, Cost] = field(default_factory=dict)
    timed: str = ""
