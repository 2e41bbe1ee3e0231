"""What a run ran on, written beside its results."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..files.project import INSTALLED, PROJECT

__all__ = ["choose_device", "device_name", "environment"]

_PACKAGES = (
    "torch", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf",
    "albumentations", "opencv-python-headless", "numpy", "wandb",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, commit, command, device and time as plain containers."""
    return {
        "command": shlex.join([sys.executable, *sys.orig_argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "modified_files": _git("status", "--porcelain", "--untracked-files=no").splitlines(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "cuda": torch.version.cuda,
        "device": device_name(),
        "threads": torch.get_num_threads(),
    }


def _versions() -> dict[str, str]:
    """Of the packages that a result depends on, as far as they are installed by these names."""
    found = {}
    for name in (*_PACKAGES, *(["semseg"] if INSTALLED else [])):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def device_name() -> str:
    """The GPU's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return _linux_processor() or platform.processor() or platform.machine()


def _linux_processor() -> str:
    """Empty elsewhere, and where its maker does not name it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def _git(*arguments: str) -> str:
    """What git says of the clone; nothing where the project is installed, maybe inside another's repository."""
    if INSTALLED:
        return ""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False, cwd=PROJECT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is a GPU where there is one.

    Raises:
        UserError: for another name, or without a usable GPU.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"device={name} is unknown; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: this machine has no usable GPU; use device=cpu")
    return name
