"""The options of each command: one model for each root config in ``conf/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import ConfigDict

from src.schema.checkpoint_commands import Autolabel, Compare, Evaluate, Export, Predict, Submit
from src.schema.faults import Options
from src.schema.options import Data, Dataset, Model, NetSize, Norms, Optimizer, Trainer
from src.schema.types import (
    Between,
    Count,
    Device,
    Minutes,
    Name,
    Names,
    PathText,
    Positive,
    Seed,
    Target,
    Text,
    Whole,
    Words,
)

__all__ = ["COMMANDS", "model_of"]

_Ema = Annotated[Between, Words("a decay between 0 and 1, such as 0.999")]
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


class Shards(Options):
    """``src.shards``."""

    data: Data
    split: Names
    out: PathText
    shard_mb: Positive


class _Cluster(Options):
    """What submitit's executor takes, beside."""

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
    """What a sweep is; rows, grid and search are looked into by ``src.sweeps.spec``."""

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


COMMANDS: dict[str, type[Options]] = {
    "autolabel": Autolabel,
    "benchmark": Benchmark,
    "convert": Convert,
    "dashboard": Dashboard,
    "doctor": Doctor,
    "evaluate": Evaluate,
    "export": Export,
    "predict": Predict,
    "shards": Shards,
    "submit": Submit,
    "sweep": Sweep,
    "train": Train,
}


def model_of(command: str, values: Mapping[str, Any]) -> type[Options] | None:
    """The model of a command; nothing for a command without one."""
    if command == "evaluate" and values.get("compare") is not None:
        return Compare
    return COMMANDS.get(command)
