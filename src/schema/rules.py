"""Rules between options, and what is too much for this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..runtime.cores import available_cores
from .faults import Fault
from .words import written

__all__ = ["rule_faults"]

_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "LSB_JOBID", "KUBERNETES_PORT", "MASTER_ADDR")
_OF_A_GRAPH = {  # options of src.export and their defaults
    **{"size": None, "batch": None, "output": "label", "layout": "nchw", "precision": "fp32"},
    **{"output_stride": None, "min_agreement": 0.999, "check_images": 4},
}
_OF_A_BUNDLE = {"licence": None, "picture": True}
_FLOATS = 12  # bytes of a pixel of an image that a net sees
_MOST_PER_CORE = 8  # processes; more only wait for one another
_ALWAYS = 16  # processes that any machine starts


def rule_faults(command: str, values: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with ``values``, a tree whose single options are right."""
    if "trainer" in values:
        yield from _length(values["trainer"]) if command == "train" else ()
        yield from _nodes(values["trainer"]) if command != "doctor" else ()
        yield from _processes(values["trainer"], values["data"])
    if command == "train" and values["callbacks"].get("charts") and not values["callbacks"].get("history"):
        yield Fault(
            ("callbacks", "history"),
            "=null: callbacks.charts draws what callbacks.history writes; set callbacks.charts=null as well",
        )
    if command in ("train", "doctor"):
        yield from _weights(values["data"])
        yield from _images(values)
    if command in ("benchmark", "export") and values["size"] is not None:
        batch = values["batch_size"] if command == "benchmark" else values["batch"]
        largest = max(batch) if isinstance(batch, list) else batch or 1
        yield from _fits(("size",), values["size"], largest, "batch_size" if command == "benchmark" else "batch")
    if command == "export":
        yield from _of_another_format(values)
    if command == "predict" and values["huge"]["block"] % 256:
        yield Fault(("huge", "block"), f"={values['huge']['block']} must be a multiple of 256 pixels")
    if command == "submit" and not values["out"].endswith(".zip"):
        yield Fault(("out",), f"={values['out']}: must end in .zip; the PNGs lie in a folder of that name without it")
    if command == "dashboard" and (values["run"] is None) == (values["compare"] is None):
        given = "nothing to show" if values["run"] is None else f"run={values['run']} beside compare="
        yield Fault((), f"{given}: give either run=FOLDER, or compare=[FOLDER,FOLDER], or compare=FOLDER of runs")


def _of_another_format(values: Mapping[str, Any]) -> Iterator[Fault]:
    bundle = values["format"] == "bundle"
    for name, default in (_OF_A_GRAPH if bundle else _OF_A_BUNDLE).items():
        if values[name] != default:
            remedy = "give it where the bundle is applied, or leave it out" if bundle else "leave it out"
            of = "a file of one graph" if bundle else "a bundle"
            yield Fault(
                (name,), f"={written(values[name])}: is an option of {of}, not of format={values['format']}; {remedy}"
            )


def _length(trainer: Mapping[str, Any]) -> Iterator[Fault]:
    for name in ("max_epochs", "max_steps"):
        if trainer[name] == 0:
            yield Fault(("trainer", name), "=0 trains nothing; use 1 or more, or -1 for no limit")
    if trainer["max_epochs"] == trainer["max_steps"] == -1:
        yield Fault(("trainer", "max_epochs"), "=-1: the run has no end; set it or trainer.max_steps to 1 or more")


def _nodes(trainer: Mapping[str, Any]) -> Iterator[Fault]:
    nodes = trainer["num_nodes"]
    if nodes > 1 and not any(os.environ.get(name) for name in _LAUNCHERS):
        yield Fault(
            ("trainer", "num_nodes"),
            f"={nodes} waits for {nodes - 1} other machines, and nothing has started this command there; start it with"
            " srun or torchrun (docs/scaling.md), or set trainer.num_nodes=1",
        )


def _processes(trainer: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Fault]:
    """More processes than the machine can run."""
    cores = available_cores()
    most = max(_ALWAYS, _MOST_PER_CORE * cores)
    counted = {("data", "num_workers"): data.get("num_workers"), ("trainer", "devices"): trainer["devices"]}
    for path, count in counted.items():
        if isinstance(count, int) and count > most:
            yield Fault(path, f"={count}: this machine has {cores} cores, enough for {most} processes; use fewer")


def _weights(data: Mapping[str, Any]) -> Iterator[Fault]:
    weights, classes = data.get("class_weights"), data.get("num_classes")
    if isinstance(weights, list) and classes is not None and len(weights) != classes:
        yield Fault(
            ("data", "class_weights"),
            f" has {len(weights)} entries but there are {classes} classes; give one per class",
        )


def _images(values: Mapping[str, Any]) -> Iterator[Fault]:
    data, transforms = values["data"], values["transforms"]
    for name in ("crop_size", "output_size"):
        size = transforms.get(name)
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size):
            yield from _fits(("transforms", name), size, data["batch_size"], "data.batch_size")


def _fits(path: tuple[str, ...], size: list[int], batch: int, batch_option: str) -> Iterator[Fault]:
    needed, memory = math.prod(size) * batch * _FLOATS, _memory()
    if memory is not None and needed > memory:
        yield Fault(
            path,
            f"={written(size)} with {batch_option}={batch} takes {needed / 1e9:,.0f} GB for the images of a batch,"
            f" and this machine has {memory / 1e9:,.0f} GB; lower one of them",
        )


def _memory() -> int | None:
    """Bytes of main memory, where the system says so."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
