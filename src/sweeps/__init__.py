"""Sweeps: what varies, a process for each trial, a journal that outlives all of them, and a table of results."""

from src.sweeps.cost import Cost, Costs
from src.sweeps.driver import Driver, train_command
from src.sweeps.results import Result, results
from src.sweeps.spec import Row, Sweep, Trial
from src.sweeps.spec_parser import parse

__all__ = ["Cost", "Costs", "Driver", "Result", "Row", "Sweep", "Trial", "parse", "results", "train_command"]
