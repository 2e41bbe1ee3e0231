"""The computer a training would run on: facts, and what is wrong with them."""

from src.machine.facts import Gpu, Machine, look
from src.machine.findings import notes, problems, report

__all__ = ["Gpu", "Machine", "look", "notes", "problems", "report"]
