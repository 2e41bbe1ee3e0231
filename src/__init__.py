"""Semantic segmentation, from FCN to hierarchical multi-scale attention.

In Python, with the names that are imported when they are first used:

    import semseg

    net = semseg.load("runs/train/<run>")
    result = net.predict("street.jpg")
    result.label, result.areas(), result.overlay()

    run = semseg.train("model=bisenetv2", "data=camvid", "data.root=<folder>")
    run.scores.miou, run.checkpoint
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .files.project import CONFIG_DIR, refuse_other_name
from .runtime import torchvision_guard

if TYPE_CHECKING:
    from .runs import Comparison, Evaluation, Findings, Run, compare, doctor, evaluate, train
    from .segmenter import Segmentation, Segmenter, load

__all__ = [
    "Comparison", "Evaluation", "Findings", "Run", "Segmentation", "Segmenter", "UserError", "compare", "doctor",
    "evaluate", "list_datasets", "list_models", "load", "train",
]  # fmt: skip

_IN_SEGMENTER = ("Segmentation", "Segmenter", "load")
_IN_RUNS = ("Comparison", "Evaluation", "Findings", "Run", "compare", "doctor", "evaluate", "train")

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
    for module, names in (("segmenter", _IN_SEGMENTER), ("runs", _IN_RUNS)):
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"{__name__} has no {name}")


def __dir__() -> list[str]:
    return __all__
