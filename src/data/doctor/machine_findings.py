"""What would stand in the way of a training on this computer, each with its remedy."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence

import cv2

from src.data.doctor.machine_facts import TWINS, Machine

__all__ = ["notes", "problems", "report"]

_GIB = 2**30
_LITTLE_DISK, _LITTLE_MEMORY = _GIB, 2 * _GIB


def report(machine: Machine) -> str:
    """The facts in a few lines."""
    driver = (
        "none" if machine.driver is None else f"{machine.driver_name or ''} for CUDA up to {_dotted(machine.driver)}"
    )
    gpus = [f"{gpu.name}, {_gib(gpu.free)} free of {_gib(gpu.total)}" for gpu in machine.gpus]
    memory = "unknown" if machine.memory is None else "{} free of {}".format(*map(_gib, machine.memory))
    shared = "" if machine.shared is None else f", /dev/shm {_gib(machine.shared)} free"
    return "\n".join([
        f"system      {platform.platform()}, Python {platform.python_version()}, {machine.cores} cores",
        f"torch       {machine.torch}, {f'for CUDA {machine.cuda}' if machine.cuda else 'without CUDA'};"
        f" OpenCV {cv2.__version__}",
        f"GPU         {'; '.join(gpus) or 'none that torch can use'}; NVIDIA driver: {driver}",
        f"memory      {memory}{shared}",
        f"disk        {', '.join(f'{name}: {_gib(free)} free' for name, free in machine.disks.items())}",
    ])  # fmt: skip


def problems(machine: Machine, *, loading: int = 0) -> list[str]:
    """What would end a training, a sentence each with its remedy.

    Args:
        machine: the facts.
        loading: bytes of the batches that loading processes hold ready.
    """
    found = []
    for gpu in machine.gpus:
        if not _runs(gpu.capability, machine.kernels):
            found.append(
                f"torch {machine.torch} has no code for {gpu.name} (compute capability {_dotted(gpu.capability)}; it"
                f" has {', '.join(machine.kernels)}); install the build for it that pytorch.org/get-started names, or"
                " train with trainer=cpu"
            )
    if machine.shared is not None and loading > machine.shared:
        found.append(
            f"/dev/shm has {_gib(machine.shared)} free but batches on their way take {_gib(loading)}; set"
            f" data.num_workers=0, or start the container with --shm-size={-(-2 * loading // _GIB)}g"
        )
    found += [
        f"{name}: only {_gib(free)} of disk is free; make room, or set hydra.run.dir= to a folder on another disk"
        for name, free in machine.disks.items()
        if free < _LITTLE_DISK
    ]
    return found


def notes(machine: Machine) -> list[str]:
    """What is odd but may be meant, a sentence each with its remedy."""
    found = [sentence for sentence in (_idle_gpu(machine), _pins(machine)) if sentence]
    twins = [name for name in TWINS if name in machine.packages]
    if twins:
        found.append(
            f"{', '.join(twins)} beside opencv-python-headless: both write the folder cv2; pip uninstall -y"
            f" {' '.join(twins)} opencv-python-headless && pip install -r requirements.txt"
        )
    if machine.memory is not None and machine.memory[0] < _LITTLE_MEMORY:
        found.append(f"only {_gib(machine.memory[0])} of memory is free; end other programs, or set data.num_workers=1")
    return found


def _idle_gpu(machine: Machine) -> str | None:
    """Why torch sees no GPU although it, or the computer, could."""
    if machine.gpus:
        return None
    if machine.cuda is None:
        return machine.driver_gpus and (
            f"{machine.driver_gpus} NVIDIA GPU(s) lie idle, as torch {machine.torch} is a CPU build; install the CUDA"
            " build that pytorch.org/get-started names"
        )
    if machine.driver is None:
        return (
            f"torch {machine.torch} is built for CUDA {machine.cuda} but there is no NVIDIA driver; install one, or"
            " train with trainer=cpu"
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={hidden} hides every GPU; unset it, or train with trainer=cpu"
    return (
        f"torch {machine.torch} is built for CUDA {machine.cuda} but finds no GPU; the driver runs CUDA up to"
        f" {_dotted(machine.driver)} and has {machine.driver_gpus} GPU(s); update the driver, start the container"
        " with --gpus all, or train with trainer=cpu"
    )


def _pins(machine: Machine) -> str | None:
    have = {name: machine.packages.get(name, "missing").split("+")[0] for name in machine.pins}
    off = [f"{name} {have[name]} (pinned {pin})" for name, pin in machine.pins.items() if have[name] != pin]
    return f"installed otherwise than tested: {', '.join(off)}; pip install -r requirements.txt" if off else None


def _runs(capability: tuple[int, int], kernels: Sequence[str]) -> bool:
    """Binaries (sm) run on later minor versions of their major one, code for a virtual GPU (compute) on all later."""
    codes = re.findall(r"\b(sm|compute)_(\d+)(\d)", " ".join(kernels))
    have = [(kind, (int(major), int(minor))) for kind, major, minor in codes]
    return not have or any(
        version <= capability and (kind == "compute" or version[0] == capability[0]) for kind, version in have
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.3g} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"
