"""Sweeps: what varies, a process for each trial, a journal that outlives all of them, and a table of results."""

from .cost import Cost, Costs
from .driver import Driver, train_command
from .results import Result, results
from .spec import Row, Sweep, Trial
from .spec_parser import parse

__all__ = ["Cost", "Costs", "Driver", "Result", "Row", "Sweep", "Trial", "parse", "results", "train_command"]
