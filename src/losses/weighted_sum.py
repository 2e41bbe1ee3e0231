"""Several criteria on the same logits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..schema.types import NotNegative
from .masking import Criterion

__all__ = ["WeightedSum"]


class WeightedSum(Criterion):
    """Sum of criteria, each times its weight.

    Args:
        criteria: name -> criterion.
        weights: name -> weight, for the same names.

    Raises:
        UserError: for names that differ, and negative weights.
    """

    def __init__(self, *, criteria: Mapping[str, nn.Module], weights: Mapping[str, NotNegative]) -> None:
        super().__init__()
        if criteria.keys() != weights.keys() or any(weight < 0 for weight in weights.values()):
            raise UserError(
                f"loss.weights={dict(weights)} must give a number of 0 or more to each of {', '.join(criteria)}"
            )
        self.criteria = nn.ModuleDict(criteria)
        self.weights = dict(weights)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits (B,C,H,W) and integer label (B,H,W) -> scalar."""
        return reduce(torch.add, [self.weights[name] * each(logits, label) for name, each in self.criteria.items()])
