"""Semantic segmentation, from FCN to hierarchical multi-scale attention."""

import sys

_OTHER = "src" if __name__ == "semseg" else "semseg"
if f"{_OTHER}.files.project" in sys.modules:
    raise ImportError(
        f"this process has imported the project as {_OTHER} already, and cannot import it as {__name__} too;"
        f" use {_OTHER} alone (semseg is what pip has installed, src is a clone)"
    )

from .runtime import torchvision_guard

torchvision_guard.install()
