"""One file for deployment out of a net and how it is applied: the graph, the file, and the check of the file."""

from src.exporting.agreement import Agreement, compare
from src.exporting.formats import FORMATS, providers, require, runner, write
from src.exporting.graph import LAYOUTS, OUTPUTS, PRECISIONS, Deployed, Traced, trace

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "OUTPUTS",
    "PRECISIONS",
    "Agreement",
    "Deployed",
    "Traced",
    "compare",
    "providers",
    "require",
    "runner",
    "trace",
    "write",
]
