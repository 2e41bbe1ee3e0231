"""Trials as parallel processes of this machine, on slots of devices."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...runtime.cores import available_cores
from ...schema.faults import checked
from ...schema.types import Count, Minutes
from ..trial_folder import LOG
from .base import PATIENCE, Executor, Handle, stop_leftovers

__all__ = ["Local", "Process", "gpus", "slots"]


def gpus(chosen: Any = "auto") -> list[str]:
    """The GPUs that are ``chosen``; those that this process may use with ``auto``.

    Raises:
        UserError: if it is neither ``auto`` nor a list.
    """
    if chosen != "auto":
        if isinstance(chosen, str) or not isinstance(chosen, Sequence | None):
            raise UserError(f"gpus={chosen} must be auto, or a list as gpus=[0,1]; gpus=[] is the CPU")
        return [str(each) for each in chosen or ()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each.strip() for each in visible.split(",") if each.strip() and each.strip() != "-1"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    return []


@checked("")
def slots(devices: Sequence[str], *, per_trial: Count, jobs: Count | None) -> list[dict[str, str]]:
    """The environments of trials that run in parallel.

    Args:
        devices: GPUs; none for the CPU.
        per_trial: devices of each trial.
        jobs: trials in parallel; ``None``: as many as the GPUs allow, or one.

    Raises:
        UserError: if there are too few GPUs.
    """
    if not devices:
        jobs = jobs or 1
        environment = {"CUDA_VISIBLE_DEVICES": ""}
        if "OMP_NUM_THREADS" not in os.environ and jobs * per_trial > 1:
            # Every process would take all cores for itself, and parallel trials would run slower than in turn.
            environment["OMP_NUM_THREADS"] = str(max(1, available_cores() // (jobs * per_trial)))
        return [dict(environment) for _ in range(jobs)]
    groups = [devices[first : first + per_trial] for first in range(0, len(devices) - per_trial + 1, per_trial)]
    if not groups or (jobs or 0) > len(groups):
        raise UserError(
            f"{jobs or 1} trials of {per_trial} devices need {(jobs or 1) * per_trial} GPUs, and there are"
            f" {len(devices)}; lower jobs= or sweep.devices="
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups[:jobs]]


class Process(Handle):
    """A trial that runs; its process leads a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, *, patience: float | None = None) -> None:
        self._process, self._folder, self._patience = process, folder, patience

    def poll(self) -> int | None:
        """The exit status, ``None`` while it runs; one that has gone silent is ended."""
        status = self._process.poll()
        if status is None and self._patience is not None and _silent(self._folder) > 60 * self._patience:
            with (self._folder / LOG).open("a") as log:
                log.write(f"error: no sign of life for {self._patience:g} minutes, so it was ended; see patience=\n")
            self.stop()
            return self._process.returncode or 1
        return status

    def ask_to_stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def stop(self) -> None:
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        stop_leftovers(self._folder)


class Local(Executor):
    """Starts trials on slots that are free.

    Args:
        environments: of the slots, see ``slots``.
        patience: minutes without a new file or line in a trial's folder after which it is ended; ``None`` for no end.
    """

    @checked("")
    def __init__(self, environments: Sequence[Mapping[str, str]], *, patience: Minutes | None = None) -> None:
        self._slots, self._patience = list(environments), patience
        self._taken: dict[int, Process] = {}

    def free(self) -> bool:
        self._taken = {slot: trial for slot, trial in self._taken.items() if trial.poll() is None}
        return len(self._taken) < len(self._slots)

    def start(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> Process:
        arguments = command()
        slot = next(slot for slot in range(len(self._slots)) if slot not in self._taken)
        variables = {**os.environ, **environment, **self._slots[slot], "PYTHONUNBUFFERED": "1"}
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
                preexec_fn=_ends_with_its_parent,
            )
        self._taken[slot] = Process(process, folder, patience=self._patience)
        return self._taken[slot]


def _silent(folder: Path) -> float:
    """Seconds since something in the trial's folder was written."""
    places = [folder, *folder.glob("*"), *folder.glob("checkpoints/*")]
    written = []
    for path in places:
        with contextlib.suppress(FileNotFoundError):  # moved away meanwhile
            written.append(path.stat().st_mtime)
    return time.time() - max(written)


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _ends_with_its_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: holds for a driver killed with -9 as well
