"""Facts about this computer that matter to a training."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from src.files.project import PROJECT

__all__ = ["TWINS", "Gpu", "Machine", "look"]

TWINS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Packages that write the same files as opencv-python-headless."""

_PINS = PROJECT / "requirements.txt"


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


def look(folders: Mapping[str, Path], cores: int) -> Machine:
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
        packages={name: version for name in (*pins, *TWINS) if (version := _version(name))},
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
        library = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
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
    return found and found[0]


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


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
