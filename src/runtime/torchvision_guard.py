"""Lets torchvision be imported beside a torch that it was not built for, such as PyPI's torchvision beside a CPU build.

timm and torchmetrics import torchvision, which then fails because its compiled operators cannot be loaded. Nothing here
uses those operators, so it is enough that their names exist.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

__all__ = ["install"]

OPERATORS = ("nms", "qnms")  # those for which torchvision registers a kernel in Python


class _Guard(MetaPathFinder):
    """Prepares torch when torchvision is about to be imported; costs nothing until then."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            _name_operators(Path(spec.origin).parent)
        return spec


def _name_operators(folder: Path) -> None:
    import torch

    libraries = [path for path in folder.glob("_C*") if path.suffix in (".so", ".pyd")]
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        libraries = []
    if not libraries:
        for operator in OPERATORS:
            torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float limit) -> Tensor")


def install() -> None:
    """Guards the first import of torchvision, unless that has happened."""
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, _Guard())
