"""What every executor has: where trials run, how one is started, taken over and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["MARK", "PATIENCE", "Executor", "Handle", "stop_leftovers"]

MARK = "SEMSEG_TRIAL"  # in the environment of every process of a trial
PATIENCE = 30.0  # seconds between SIGTERM and SIGKILL


class Handle(ABC):
    """A trial that was started."""

    job: str | None = None  # by which another driver can find it, where it can

    @abstractmethod
    def poll(self) -> int | None:
        """The exit status; ``None`` while it waits or runs."""

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Asks it to end, and does not wait."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it with every process that it started, and waits for that."""


class Executor(ABC):
    """Where trials run."""

    @abstractmethod
    def free(self) -> bool:
        """Whether another trial may start."""

    @abstractmethod
    def start(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> Handle:
        """Starts a trial.

        Args:
            command: gives the command once the trial has a machine, since it depends on what its folder holds then.
            folder: of the trial; what it prints is added to ``log.txt`` there.
            environment: variables that it gets besides those of this process.
        """

    def adopt(self, job: str | None, folder: Path) -> Handle | None:
        """Takes over a trial of an earlier driver.

        By default it ends what is left of it on this machine: nobody can learn its exit status any more.

        Args:
            job: as the earlier driver noted it.
            folder: of the trial.

        Returns:
            The trial, ended or not; ``None`` if it has to start again.
        """
        stop_leftovers(folder)
        return None


def stop_leftovers(folder: Path) -> None:
    """Ends processes of the trial in ``folder`` that still run, whoever started them (Linux)."""
    deadline, asked = time.monotonic() + PATIENCE, False
    while pids := _marked(folder):
        late = time.monotonic() > deadline
        for pid in pids if late or not asked else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked = True
        time.sleep(0.05)


def _marked(folder: Path) -> list[int]:
    """Living processes whose environment names ``folder``."""
    mark, found = f"{MARK}={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
