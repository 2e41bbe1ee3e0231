"""Parameter groups and learning-rate schedules."""

from src.optim.param_groups import param_groups
from src.optim.schedules import poly, warmup_poly

__all__ = ["param_groups", "poly", "warmup_poly"]
