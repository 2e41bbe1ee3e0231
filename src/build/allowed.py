"""What each place of a config may name as ``_target_``, and the check of names and arguments.

The same lists hold for a command line and for a file from elsewhere, so a checkpoint can name nothing but parts of a
model, and none of these does more than its constructor says. What steers the program (callbacks, loggers) is never
taken from a file (``src.build.saved_config``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger
from torch import nn
from torch.optim import Optimizer

from ..data.augment.pipeline import STEPS
from ..data.sampling.samplers import Shuffle
from ..errors import UserError
from ..files.project import CONFIG_DIR
from ..inference import DenseCRF, Inference, Sliding
from ..models import ExplicitAttention, HierarchicalAttention, PooledScales
from ..schema.faults import Fault, call_faults
from ..schema.words import written
from .instantiate import Kind

__all__ = [
    "CALLBACK",
    "DATA",
    "INFERENCE",
    "LOGGER",
    "LOSS",
    "NET",
    "OPTIMIZER",
    "SAMPLER",
    "SCALES",
    "SCHEDULE",
    "TRANSFORM",
    "called_at",
    "target_faults",
]


def _listings() -> frozenset[str]:
    """The functions that list a data set: those that ``conf/data`` names."""
    texts = (path.read_text(encoding="utf-8") for path in CONFIG_DIR.glob("data/*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"_target_:\s*(src\.data\.[\w.]+)", text))


NET = Kind("nets", ("src.models",), (nn.Module,), frozenset({"src.models.backbones.create_backbone"}))
SCALES = Kind("nets over scales", ("src.models",), (HierarchicalAttention, ExplicitAttention, PooledScales))
INFERENCE = Kind("parts of inference", ("src.inference",), (Inference, Sliding, DenseCRF))
DATA = Kind("data sets in conf/data", ("src.data",), functions=_listings())
TRANSFORM = Kind(
    "transforms", ("src.data", "albumentations"), STEPS, frozenset({"src.data.augment.pipeline.train_transform"})
)
SAMPLER = Kind("samplers", ("src.data",), (Shuffle,))
LOSS = Kind("losses", ("src.losses", "torch.nn"), (nn.Module,))
OPTIMIZER = Kind("optimisers", ("torch.optim", "timm.optim"), (Optimizer,))
SCHEDULE = Kind(
    "schedules",
    ("src.optim",),
    functions=frozenset(f"src.optim.schedules.{name}" for name in ("constant", "poly", "step", "warmup_poly")),
)
CALLBACK = Kind("callbacks", ("src", "pytorch_lightning.callbacks"), (Callback,))
LOGGER = Kind("loggers", ("src", "pytorch_lightning.loggers"), (Logger,), frozenset({"src.loggers.wandb.wandb_logger"}))
_KINDS = {
    "model.net": NET,
    "model.scales": SCALES,
    "inference": INFERENCE,
    "data.dataset": DATA,
    "transforms": TRANSFORM,
    "sampler": SAMPLER,
    "loss": LOSS,
    "aux_loss": LOSS,
    "optimizer.algorithm": OPTIMIZER,
    "schedule": SCHEDULE,
    "callbacks": CALLBACK,
    "logger": LOGGER,
}
_CHECKED = ("src.", "torch.optim.", "pytorch_lightning.")  # those of others check their arguments themselves


def called_at(path: tuple[str, ...], target: Any) -> Any:
    """What a ``_target_`` at a place of the config names.

    Raises:
        UserError: if that place does not allow it.
    """
    for place, kind in _KINDS.items():
        if path[: place.count(".") + 1] == tuple(place.split(".")):
            return kind.find(target)
    raise UserError(f"{'.'.join(path)}._target_={target}: nothing is built here; leave it out")


def target_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with what ``values``, a tree of plain containers, describes in the places that are built."""
    for place, kind in _KINDS.items():
        path, node = tuple(place.split(".")), values
        for name in path:
            node = node.get(name) if isinstance(node, Mapping) else None
        yield from _faults(node, path, kind)


def _faults(node: Any, path: tuple[str, ...], kind: Kind) -> Iterator[Fault]:
    if isinstance(node, list | tuple):
        for each in node:
            yield from _faults(each, path, kind)
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        yield from _own_faults(node, path, kind)
    for name, value in node.items():
        yield from _faults(value, (*path, str(name)), kind)


def _own_faults(node: Mapping[str, Any], path: tuple[str, ...], kind: Kind) -> Iterator[Fault]:
    if not isinstance(node.get("_partial_", True), bool):
        yield Fault((*path, "_partial_"), f"={written(node['_partial_'])} must be true or false")
    try:
        call = kind.find(node["_target_"])
    except UserError as error:
        yield Fault((*path, "_target_"), f"={error}")
        return
    if node["_target_"].startswith(_CHECKED):
        given = {name: value for name, value in node.items() if not str(name).startswith("_")}
        for fault in call_faults(call, given, complete=not node.get("_partial_"), described=True):
            yield Fault((*path, *fault.path), fault.sentence)
