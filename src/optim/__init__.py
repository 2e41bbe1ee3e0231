"""Parameter groups and learning-rate schedules."""

from src.optim.param_groups import param_groups
from src.optim.schedules import constant, poly, step, warmup_poly

__all__ = ["constant", "param_groups", "poly", "step", "warmup_poly"]
