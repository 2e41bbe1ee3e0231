"""Groups of options that several commands share, as models; what is built is for ``src.build.allowed``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval, Len, Predicate
from pydantic import ConfigDict

from .faults import Options
from .types import (
    Count,
    Deviations,
    Fraction,
    Name,
    Names,
    NotNegative,
    PathText,
    Positive,
    Scales,
    Share,
    Size,
    Statistics,
    Target,
    Text,
    Weights,
    Whole,
    Words,
)

__all__ = ["Data", "Dataset", "Huge", "Model", "NetOrNone", "NetSize", "Norms", "Optimizer", "Trainer"]

_ClassCount = Annotated[int, Interval(ge=1, le=255)]
_Length = Annotated[
    int, Interval(ge=-1, le=2**31 - 1), Words("a whole number of 1 or more, or -1 for no limit")
]  # 0, which trains nothing, has a sentence of its own
_Rule = Literal["median_frequency", "sqrt_median_frequency", "inverse_log"]
NetSize = Annotated[
    Sequence[Annotated[int, Ge(32)]], Len(2, 2), Words("[height, width] in pixels, whole numbers of 32 or more")
]
"""What a net is given."""


class Dataset(Options):
    """What any data set has; further options are those of the one that is chosen."""

    model_config = ConfigDict(extra="allow")

    name: Name
    num_classes: _ClassCount | None


class Data(Dataset):
    """A data set that is read: ``conf/data``."""

    mean: Statistics
    std: Deviations
    channel_order: Literal["rgb", "bgr"] = "rgb"
    root: PathText | Annotated[Sequence[PathText], Len(1), Words("a list of them")] = "."
    dataset: Target
    splits: Mapping[Text, Names | None]
    batch_size: Count
    eval_batch_size: Count
    eval_long_edge: Count | None = None
    num_workers: Literal["auto"] | Whole
    scale: Scales = (1.0,)
    crop_size: Size = (512, 512)
    max_epochs: _Length | None = None
    class_weights: _Rule | Weights | None = None
    min_confidence: Fraction | None = None


_NetScales = Target | Annotated[Mapping[str, Any], Len(0, 0), Words("{}")] | None


class Model(Options):
    """A net: ``conf/model`` and ``conf/model/scales``."""

    name: Name
    net: Target
    scales: _NetScales = None
    aux_weights: Mapping[str, NotNegative | None] | None = None


class NetOrNone(Options):
    """What of a net can be chosen beside a checkpoint: its scales; the rest is the checkpoint's."""

    scales: _NetScales = None


class Norms(Options):
    """Batch norms in training."""

    freeze: Literal["statistics", "all"] | None = None
    momentum: Fraction | None = None
    eps: Positive | None = None


class Optimizer(Options):
    """``conf/optimizer``."""

    lr: NotNegative
    reference_batch: Positive | None = None
    weight_decay: NotNegative
    decay_on: Literal["kernels", "all"] = "kernels"
    lr_multipliers: Mapping[str, NotNegative] | None = None
    bias_lr_multiplier: NotNegative = 1.0
    algorithm: Target


_Precision = Literal["32-true", "16-mixed", "bf16-mixed", "32", "16", "bf16", 32, 16]
_Devices = (
    Literal["auto", -1]
    | Count
    | Annotated[Sequence[Whole], Len(1), Words("a list of device numbers")]
    | Annotated[str, Predicate(lambda text: re.fullmatch(r"\d+(,\d+)*,?", text)), Words("such a list as text")]
)
_Part = Annotated[float, Interval(gt=0, le=1), Words("a share above 0 to 1.0")]
_Batches = Annotated[int, Ge(1), Words("a whole number of batches of 1 or more")]
_NoBatches = Annotated[int, Ge(0), Words("a whole number of batches of 0 or more")]


class Trainer(Options):
    """Lightning's trainer: ``conf/trainer``; other arguments of ``pytorch_lightning.Trainer`` may be added."""

    model_config = ConfigDict(extra="allow")

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: _Devices
    strategy: Text
    num_nodes: Count
    max_epochs: _Length
    max_steps: _Length
    precision: _Precision
    accumulate_grad_batches: Count
    gradient_clip_val: NotNegative | None
    sync_batchnorm: bool
    check_val_every_n_epoch: Count
    val_check_interval: _Batches | _Part
    limit_train_batches: _Batches | _Part
    limit_val_batches: _NoBatches | Share
    limit_test_batches: _Batches | _Part
    num_sanity_val_steps: Annotated[int, Interval(ge=-1, le=2**31 - 1)]
    log_every_n_steps: Count
    deterministic: bool | Literal["warn"]


class Huge(Options):
    """Images that are predicted block by block."""

    pixels: Count
    block: Annotated[int, Interval(ge=256, le=2**15), Words("a multiple of 256 pixels, at most 32768")]
    margin: Whole
