"""Semantic segmentation, from FCN to hierarchical multi-scale attention.

In Python, with the names that are imported when they are first used:

    import semseg

    net = semseg.load("runs/train/<run>")
    result = net.predict("street.jpg")
    result.label, result.areas(), result.overlay()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .files.project import CONFIG_DIR, refuse_other_name
from .runtime import torchvision_guard

if TYPE_CHECKING:
    from .segmenter import Segmentation, Segmenter, load

__all__ = ["Segmentation", "Segmenter", "UserError", "list_datasets", "list_models", "load"]

refuse_other_name()
torchvision_guard.install()


def list_models() -> list[str]:
    """The names that ``model=`` takes."""
    return _choices("model")


def list_datasets() -> list[str]:
    """The names that ``data=`` takes."""
    return _choices("data")


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def __getattr__(name: str) -> Any:
    if name in ("Segmentation", "Segmenter", "load"):
        return getattr(import_module(f"{__name__}.segmenter"), name)
    raise AttributeError(f"{__name__} has no {name}")
