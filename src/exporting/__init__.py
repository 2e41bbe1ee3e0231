"""A net exported together with how it is applied, as a graph in one file or as a bundle; and the check of each."""

from .agreement import Agreement, batches_of, compare
from .bundle_writer import write_bundle
from .check_images import generated, images_at_hand
from .description import metadata, summary
from .formats import FORMATS, providers, require, runner, write
from .graph import LAYOUTS, OUTPUTS, PRECISIONS, Deployed, Traced, trace

__all__ = [
    "FORMATS", "LAYOUTS", "OUTPUTS", "PRECISIONS", "Agreement", "Deployed", "Traced", "batches_of", "compare",
    "generated", "images_at_hand", "metadata", "providers", "require", "runner", "summary", "trace", "write",
    "write_bundle",
]  # fmt: skip
