"""Drives a sweep with a stub for ``src.train``; as a program, so that a test can kill it."""

from __future__ import annotations

import sys
from pathlib import Path

from src.sweeps import Driver, Sweep, parse
from src.sweeps.executors.local import Local, slots
from src.sweeps.executors.ray import RayCluster

STUB = str(Path(__file__).with_name("stub.py"))


def stub_command(devices: int) -> list[str]:
    return [sys.executable, "-S", STUB, str(devices)]


def sweep(trials: list[dict[str, object]], **changes: object) -> Sweep:
    tree = {"objective": "miou", "direction": "maximize", "devices": 1, "seeds": [0], "trials": trials, **changes}
    return parse(tree)


def drive(spec: Sweep, folder: Path, *, jobs: int = 2, **options: object) -> list[str]:
    said: list[str] = []
    executor = Local(slots([], per_trial=spec.devices, jobs=jobs))
    Driver(spec, folder, executor=executor, command=stub_command, poll=0.02, say=said.append, **options).run()
    return said


def eight(*, pause: float = 0.0) -> Sweep:
    """Eight trials of two ranks, one of which fails."""
    trials = [{"name": f"row {n}", "set": [f"value=0.{n}", f"pause={pause}"]} for n in range(1, 5)]
    trials[1]["set"] = [*trials[1]["set"], "fail=true"]
    trials += [{"name": f"more {n}", "set": [f"value=0.{n}", f"pause={pause}"]} for n in range(5, 9)]
    return sweep(trials, devices=2)


SWEEPS = {
    "eight": eight(pause=0.08),
    "long": sweep([{"name": "long", "set": ["pause=60"]}]),
    "steady": sweep([{"name": "steady", "set": ["pause=2"]}]),
}


def on_ray(spec: Sweep, folder: Path, address: str) -> None:
    options = {"address": address, "cpus_per_trial": 1, "restarts": 0}
    executor = RayCluster(folder / "ray", devices=1, jobs=None, gpus=None, options=options)
    Driver(spec, folder, executor=executor, command=stub_command).run()


if __name__ == "__main__":
    folder, name, *address = sys.argv[1:]
    (on_ray if address else drive)(SWEEPS[name], Path(folder), *address)
