"""The options of commands that use a checkpoint: one model for each root config in ``conf/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Len
from pydantic import ConfigDict

from src.schema.faults import Options
from src.schema.options import Data, Huge, NetOrNone, NetSize, Trainer
from src.schema.types import Count, Device, Name, PathText, Seed, Share, Target, Text, Whole, Words

__all__ = ["Autolabel", "Compare", "Evaluate", "Export", "Predict", "Submit"]

_Stride = Literal[8, 16, 32]
_Folders = Annotated[Sequence[PathText], Len(2, 2), Words("two run folders, such as [runs/train/a, runs/train/b]")]
_Pair = Annotated[
    Sequence[Annotated[int, Ge(1)]], Len(2, 2), Words("[width, height] in pixels, whole numbers of 1 or more")
]


class _OfCheckpoint(Options):
    """What all commands that use a checkpoint have."""

    ckpt: PathText
    output_stride: _Stride | None
    inference: Target
    model: NetOrNone


class Predict(_OfCheckpoint):
    """``src.predict``."""

    task: Name
    source: PathText
    out: PathText
    save: Text | Annotated[Sequence[Text], Len(1), Words("a list of kinds")] | None
    alpha: Share
    device: Device
    batch_size: Count | None
    frames: Count | None
    huge: Huge


class Autolabel(_OfCheckpoint):
    """``src.autolabel``."""

    source: PathText
    out: PathText
    ids: (
        Literal["train", "cityscapes"]
        | Annotated[Sequence[Annotated[int, Ge(0)]], Len(1), Words("a list of whole numbers below 255, one per class")]
    )
    device: Device


class Evaluate(_OfCheckpoint):
    """``src.evaluate ckpt=``."""

    data: Data
    trainer: Trainer
    task: Name
    split: Text
    boundary: bool
    bootstrap: Whole
    worst: Whole
    worst_images: Whole
    compare: Literal[None]
    search_images: Count
    seed: Seed
    run_dir: PathText


class Compare(Options):
    """``src.evaluate compare=``, to which the other options of ``src.evaluate`` do not matter."""

    model_config = ConfigDict(extra="ignore")

    compare: _Folders
    split: Text
    bootstrap: Whole
    seed: Seed
    run_dir: PathText


class Submit(_OfCheckpoint):
    """``src.submit``."""

    data: Data
    split: Text
    out: Annotated[PathText, Words("a path that ends in .zip")]
    images: Count | None
    size: _Pair | None
    device: Device


class Export(_OfCheckpoint):
    """``src.export``."""

    task: Name
    out: PathText | None
    format: Literal["onnx", "pt2"]
    size: NetSize | None
    batch: Count | None
    output: Literal["label", "scores", "label_and_confidence"]
    layout: Literal["nchw", "nhwc"]
    precision: Literal["fp32", "fp16"]
    min_agreement: Share
    source: PathText | None
    check_images: Count
