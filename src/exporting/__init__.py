"""One file for deployment out of a net and how it is applied: the graph, the file, and the check of the file."""

from .agreement import Agreement, batches_of, compare
from .description import metadata, summary
from .formats import FORMATS, providers, require, runner, write
from .graph import LAYOUTS, OUTPUTS, PRECISIONS, Deployed, Traced, trace

__all__ = [
    "FORMATS", "LAYOUTS", "OUTPUTS", "PRECISIONS", "Agreement", "Deployed", "Traced", "batches_of", "compare",
    "metadata", "providers", "require", "runner", "summary", "trace", "write",
]  # fmt: skip
