"""Parameter groups and learning-rate schedules."""

from .param_groups import param_groups
from .schedules import constant, poly, step, warmup_poly

__all__ = ["constant", "param_groups", "poly", "step", "warmup_poly"]
