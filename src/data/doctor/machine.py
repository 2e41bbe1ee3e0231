"""What this computer offers to a training, and what would stand in its way, each with its remedy."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import cv2
import torch

from ...files.project import PROJECT

__all__ = ["TWINS", "Gpu", "Machine", "machine_facts", "notes", "problems", "report"]

TWINS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Packages that write the same files as opencv-python-headless."""

_PINS = PROJECT / "requirements.txt"
_GIB = 2**30
_LITTLE_DISK, _LITTLE_MEMORY = _GIB, 2 * _GIB


class Gpu(NamedTuple):
    """A GPU as torch sees it: its name, bytes of memory, and compute capability such as ``(9, 0)``."""

    name: str
    free: int
    total: int
    capability: tuple[int, int]


class Machine(NamedTuple):
    """Facts.

    Attributes:
        cores: that this process may use.
        torch: version of torch.
        cuda: CUDA version that torch was built for, ``None`` for a CPU build.
        kernels: capabilities that it was built for, such as ``sm_90``.
        gpus: those that torch can use.
        driver: newest CUDA version that the NVIDIA driver runs, ``None`` without one.
        driver_name: its own version, such as ``550.54.15``, where that can be told.
        driver_gpus: how many GPUs it has.
        memory: bytes free and in all, ``None`` where that cannot be told.
        shared: bytes free in ``/dev/shm``, through which loading processes hand over batches.
        disks: folder -> bytes free where it lies, or will lie.
        packages: name -> installed version, of pinned packages and of such as must not be there.
        pins: name -> version in ``requirements.txt``.
    """

    cores: int
    torch: str
    cuda: str | None
    kernels: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    driver: tuple[int, int] | None
    driver_name: str | None
    driver_gpus: int
    memory: tuple[int, int] | None
    shared: int | None
    disks: Mapping[str, int]
    packages: Mapping[str, str]
    pins: Mapping[str, str]


def machine_facts(folders: Mapping[str, Path], cores: int) -> Machine:
    """The facts of this computer; ``folders`` are those whose free disk space matters, by the name to call them."""
    driver, driver_gpus = _driver()
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", _PINS.read_text(), re.MULTILINE)) if _PINS.is_file() else {}
    shared = Path("/dev/shm")
    return Machine(
        cores=cores,
        torch=torch.__version__,
        cuda=torch.version.cuda,
        kernels=tuple(torch.cuda.get_arch_list()),
        gpus=_gpus(),
        driver=driver,
        driver_name=_driver_name(),
        driver_gpus=driver_gpus,
        memory=_memory(),
        shared=shutil.disk_usage(shared).free if shared.is_dir() else None,
        disks={name: _free(folder) for name, folder in folders.items()},
        packages=_versions([*pins, *TWINS]),
        pins=pins,
    )


def _gpus() -> tuple[Gpu, ...]:
    if not torch.cuda.is_available():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        try:
            free = torch.cuda.mem_get_info(index)[0]
        except RuntimeError:  # another process has it for itself
            free = 0
        found.append(Gpu(properties.name, free, properties.total_memory, (properties.major, properties.minor)))
    return tuple(found)


def _driver() -> tuple[tuple[int, int] | None, int]:
    """CUDA version and GPUs of the NVIDIA driver, asked without torch, whose build may know none."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, 0
    version, count = ctypes.c_int(), ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None, 0
    if library.cuInit(0) == 0:
        library.cuDeviceGetCount(ctypes.byref(count))
    return (version.value // 1000, version.value % 1000 // 10), count.value


def _driver_name() -> str | None:
    try:
        found = re.search(r"\b\d{3}\.[\d.]+", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return None if found is None else found[0]


def _memory() -> tuple[int, int] | None:
    """Free and in all, of the container where it has a limit."""
    try:
        free, total = (1024 * _number(Path("/proc/meminfo"), f"{name}:") for name in ("MemAvailable", "MemTotal"))
    except (OSError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        used -= _number(group / "memory.stat", "inactive_file")  # pages of files, given up when memory is short
    except (OSError, ValueError):  # no limit reads "max"
        return free, total
    return min(free, limit - used), min(total, limit)


def _number(table: Path, name: str) -> int:
    found = re.search(rf"^{name}\s+(\d+)", table.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])


def _free(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


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
    if machine.cuda is None and not machine.driver_gpus:
        return None
    if machine.cuda is None:
        return (
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
