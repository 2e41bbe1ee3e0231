"""What each place of a config may name as ``_target_``: the kinds for ``src.build.instantiate``.

The same lists hold for a command line and for a file from elsewhere, so a checkpoint can name nothing but parts of a
model, and none of these does more than its constructor says. What steers the program (callbacks, loggers) is never
taken from a file (``src.build.saved_config``).
"""

from __future__ import annotations

import re

from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger
from torch import nn
from torch.optim import Optimizer

from src.build.instantiate import Kind
from src.data.augment.pipeline import STEPS
from src.data.sampling.samplers import Shuffle
from src.files.project import CONFIG_DIR
from src.inference import DenseCRF, Inference, Sliding
from src.models import ExplicitAttention, HierarchicalAttention, PooledScales

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
