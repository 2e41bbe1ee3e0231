"""The options of each command: one model for each root config in ``conf/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Len
from pydantic import ConfigDict

from .faults import Options
from .options import Data, Dataset, Huge, Model, NetOrNone, NetSize, Norms, Optimizer, Trainer
from .types import (
    Between,
    Count,
    Device,
    Minutes,
    Name,
    Names,
    PathText,
    Positive,
    Seed,
    Share,
    Target,
    Text,
    Whole,
    Words,
)

__all__ = ["COMMANDS", "model_of"]

_Ema = Annotated[Between, Words("a decay between 0 and 1, such as 0.999")]
_Stride = Literal[8, 16, 32]
_Folders = Annotated[Sequence[PathText], Len(2, 2), Words("two run folders, such as [runs/train/a, runs/train/b]")]
_Pair = Annotated[
    Sequence[Annotated[int, Ge(1)]], Len(2, 2), Words("[width, height] in pixels, whole numbers of 1 or more")
]
_Paths = Annotated[Sequence[PathText], Len(1), Words("a list of paths")]


class Train(Options):
    """``src.train``."""

    data: Data
    model: Model
    transforms: Target
    sampler: Target | None = None
    loss: Target
    aux_loss: Target | None = None
    optimizer: Optimizer
    schedule: Target
    inference: Target
    trainer: Trainer
    callbacks: Mapping[str, Target | None]
    logger: Mapping[str, Target | None] | None
    task: Name
    seed: Seed
    init_from: PathText | None = None
    ckpt_path: PathText | None
    resume: PathText | None = None
    norms: Norms | None = None
    budget: Text | None = None
    ema: _Ema | None
    compile: bool
    channels_last: bool
    score: Literal["best", "last"]
    worst_images: Whole = 6
    preflight: bool
    run_dir: PathText


class Doctor(Train):
    """``src.doctor``: the options of ``src.train``, so that what is checked is what it would read, and its own."""

    limit: Count | None
    fresh: bool
    measure: bool


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
    format: Literal["onnx", "pt2", "bundle"]
    size: NetSize | None
    batch: Count | None
    output: Literal["label", "scores", "label_and_confidence"]
    layout: Literal["nchw", "nhwc"]
    precision: Literal["fp32", "fp16"]
    min_agreement: Share
    source: PathText | None
    check_images: Count
    licence: Text | None
    picture: bool


_Mode = Literal["eager", "channels_last", "compile"]
_Precision = Literal["fp32", "bf16", "fp16"]


class _Classes(Options):
    num_classes: Count


class Benchmark(Options):
    """``src.benchmark``."""

    task: Name
    ckpt: PathText | None
    model: Model
    data: _Classes
    norms: Norms | None
    size: NetSize
    batch_size: Count | Annotated[Sequence[Count], Len(1)]
    mode: _Mode | Annotated[Sequence[_Mode], Len(1)]
    precision: _Precision | Annotated[Sequence[_Precision], Len(1)]
    onnx: PathText | Sequence[PathText] | None
    device: Device
    warmup: Whole
    repeats: Count
    out: PathText


class Convert(Options):
    """``src.convert``."""

    data: Dataset
    model: Mapping[str, Any]
    inference: Target
    task: Name
    ckpt: PathText
    out: PathText
    source: Text | None
    statistics: Literal["source", "given"]
    protocol: Literal["source", "given"]
    unsafe_pickle: bool
    channels_last: bool


class Dashboard(Options):
    """``src.dashboard``."""

    run: PathText | None
    compare: PathText | _Paths | None
    out: PathText | None


class Push(Options):
    """``src.push``."""

    ckpt: PathText
    repo: Text
    private: bool
    message: Text | None
    licence: Text | None
    picture: bool


class Shards(Options):
    """``src.shards``."""

    data: Data
    split: Names
    out: PathText
    shard_mb: Positive


class _Cluster(Options):
    """Options of submitit's executor; it has more than these."""

    model_config = ConfigDict(extra="allow")

    cluster: Text | None
    timeout_min: Count
    cpus_per_task: Count
    gpus_per_node: Whole | None
    mem_gb: Positive | None
    slurm_partition: Text | None
    slurm_account: Text | None


class _Ray(Options):
    address: Text | None
    cpus_per_trial: Positive
    restarts: Whole


class _Plan(Options):
    """What a sweep is; rows, grid and search are checked by ``src.sweeps.spec``."""

    name: Name
    title: str | None
    source: str | None
    published_on: str | None
    objective: Text
    direction: Literal["maximize", "minimize"]
    devices: Count
    seeds: Annotated[Sequence[Seed], Len(1), Words("a list of different whole numbers of 0 or more")]
    fixed: Sequence[Text] | None
    trials: Sequence[Mapping[str, Any]] | None
    grid: Mapping[str, Sequence[Any]] | None
    search: Mapping[str, Any] | None
    only: Sequence[Text] = ()


class Sweep(Options):
    """``src.sweep``, whose trials are checked as ``src.train``."""

    task: Name
    sweep: _Plan
    options: Sequence[str]
    jobs: Count | None
    gpus: Literal["auto"] | Sequence[Whole | Text] | None
    executor: Literal["local", "submitit", "ray"]
    cluster: _Cluster
    ray: _Ray
    patience: Minutes | None
    retry_failed: bool
    add_seeds: Seed | Sequence[Seed]
    resume: PathText | None
    report: PathText | None
    run_dir: PathText


_ALL = (Autolabel, Benchmark, Convert, Dashboard, Doctor, Evaluate, Export, Predict, Push, Shards, Submit, Sweep, Train)
COMMANDS: dict[str, type[Options]] = {model.__name__.lower(): model for model in _ALL}


def model_of(command: str, values: Mapping[str, Any]) -> type[Options] | None:
    """The model of a command; nothing for a command without one."""
    if command == "evaluate" and values.get("compare") is not None:
        return Compare
    return COMMANDS.get(command)
