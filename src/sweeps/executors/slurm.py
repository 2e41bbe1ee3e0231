"""Trials as jobs of a cluster (SLURM), through submitit, which can also run them here."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files.project import pip_install
from ...files.untrusted import MiB, limited
from ..trial_folder import LOG
from .base import Executor, Handle, stop_leftovers

__all__ = ["Cluster", "Job"]

_PATIENCE = 60.0  # seconds that a cancelled job has to end
_FILE_PATIENCE = 15.0  # seconds until a shared file system shows the result of a job that has ended
_TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)  # statuses of a trial that was asked to end


class _Attempt:
    """What a job does; submitit calls ``checkpoint`` where the cluster takes the machine away, and queues it again."""

    def __init__(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> None:
        self.command, self.folder, self.environment = command, folder, dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        while (status := self._process.poll()) is None:  # ``wait`` here would keep ``checkpoint`` from seeing its end
            time.sleep(0.5)
        return status

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        return DelayedSubmission(_Attempt(self.command, self.folder, self.environment))


class Job(Handle):
    """A trial in the queue or on a machine."""

    def __init__(self, submitted: Any, folder: Path) -> None:
        self._submitted, self._folder, self.job = submitted, folder, str(submitted.job_id)

    def poll(self) -> int | None:
        """The exit status, ``None`` while it waits or runs; 1 if the job itself failed."""
        if not self._submitted.done():
            return None
        return _status(self._submitted.paths.result_pickle)

    def was_stopped(self) -> bool:
        """Whether it ended without a result of its own: it was cancelled, or its machine was lost."""
        if not self._submitted.done():
            return False
        return not self._submitted.paths.result_pickle.is_file() or self.poll() in _TERMINATED

    def ask_to_stop(self) -> None:
        self._submitted.cancel(check=False)

    def stop(self) -> None:
        """Takes it from the queue, or ends it; waits until the cluster says so: the next driver would take it over."""
        self.ask_to_stop()
        stop_leftovers(self._folder)  # of a job on this machine
        deadline = time.monotonic() + _PATIENCE
        while not self._submitted.done(force_check=True) and time.monotonic() < deadline:
            time.sleep(1)  # each look is a call of sacct


class Cluster(Executor):
    """Submits trials; as many at a time as ``jobs`` says, all if it is ``None``.

    Args:
        folder: of submitit's own files; every machine must see it.
        jobs: trials in the queue at a time.
        options: of submitit's ``AutoExecutor``; ``cluster`` names it (``slurm``, ``local``), null chooses.
    """

    def __init__(self, folder: Path, *, jobs: int | None, options: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ImportError:
            how = pip_install("slurm", "submitit==1.5.4")
            raise UserError(f"executor=submitit needs submitit; install it: {how}") from None
        given = {name: value for name, value in options.items() if value is not None}
        self._folder, self._jobs = folder, jobs
        self._running: list[Job] = []
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=given.pop("cluster", None))
            self._executor.update_parameters(**given)
        except (NameError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"cluster: {' '.join(str(error).split())}; correct cluster.<option>=") from error

    def free(self) -> bool:
        self._running = [job for job in self._running if job.poll() is None]
        return self._jobs is None or len(self._running) < self._jobs

    def start(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> Job:
        self._running.append(Job(self._executor.submit(_Attempt(command, folder, environment)), folder))
        return self._running[-1]

    def adopt(self, job: str | None, folder: Path) -> Handle | None:
        """The job of an earlier driver, ended or not; ``None`` if there is none, or it was stopped."""
        import submitit

        if self._executor.cluster != "slurm":
            return super().adopt(job, folder)
        submitted = self._submitted(folder)
        job = job or next(iter(submitted), None)
        if job not in submitted:  # a journal may come from anywhere: never take over another job of this user
            return None
        found = Job(submitit.SlurmJob(folder=self._folder, job_id=job, tasks=[0]), folder)
        if found.was_stopped():
            return None
        self._running.append(found)
        return found

    def _submitted(self, folder: Path) -> list[str]:
        """The jobs for ``folder``, the last one first: also of a driver that was killed before it wrote that down."""
        pickles = sorted(self._folder.glob("*_submitted.pkl"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.name.removesuffix("_submitted.pkl") for path in pickles if str(folder) in _strings(path)]


def _status(path: Path) -> int:
    """The exit status in a job's result; 1 if the job itself failed, or left none.

    A job of an earlier driver may have been put there by anybody, so nothing that the pickle names is imported.
    """
    deadline = time.monotonic() + _FILE_PATIENCE
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    with contextlib.suppress(Exception):  # a pickle can fail in any way
        outcome, status = _Plain(io.BytesIO(limited(path, MiB, remedy="submit it again"))).load()
        if outcome == "success" and isinstance(status, int):
            return status
    return 1


class _Plain(pickle.Unpickler):
    """Of containers, numbers and strings only."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not plain")


def _strings(path: Path) -> set[str]:
    """The strings in a pickle, which is not loaded; the environment of an attempt has the trial's folder as one."""
    with contextlib.suppress(UserError, ValueError, IndexError):
        content = limited(path, MiB, remedy="submit it again")
        return {argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)}
    return set()
