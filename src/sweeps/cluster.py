"""Trials as jobs of a cluster (SLURM), through submitit, which can also run them here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.sweeps.folder import LOG
from src.sweeps.local import stop_leftovers

__all__ = ["Cluster", "Job"]

_PATIENCE = 60.0  # seconds that a cancelled job has to end
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


class Job:
    """A trial in the queue or on a machine."""

    def __init__(self, submitted: Any, folder: Path) -> None:
        self._submitted, self._folder, self.job = submitted, folder, str(submitted.job_id)

    def poll(self) -> int | None:
        """The exit status, ``None`` while it waits or runs; 1 if the job itself failed."""
        if not self._submitted.done():
            return None
        return 1 if self._submitted.exception() is not None else self._submitted.result()

    def was_stopped(self) -> bool:
        """Whether it ended without a result of its own: it was cancelled, or its machine was lost."""
        if not self._submitted.done():
            return False
        return not self._submitted.paths.result_pickle.is_file() or self.poll() in _TERMINATED

    def ask_to_stop(self) -> None:
        """Does not wait."""
        self._submitted.cancel(check=False)

    def stop(self) -> None:
        """Takes it from the queue, or ends it; waits until the cluster says so: the next driver would take it up."""
        self.ask_to_stop()
        stop_leftovers(self._folder)  # of a job on this machine
        deadline = time.monotonic() + _PATIENCE
        while not self._submitted.done(force_check=True) and time.monotonic() < deadline:
            time.sleep(1)  # each look is a call of sacct


class Cluster:
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
            raise UserError("executor=submitit needs submitit; install it: pip install submitit==1.5.4") from None
        given = {name: value for name, value in options.items() if value is not None}
        self._folder, self._jobs, self._running = folder, jobs, []
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=given.pop("cluster", None))
            self._executor.update_parameters(**given)
        except (NameError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"cluster: {' '.join(str(error).split())}; correct cluster.<option>=") from error

    def free(self) -> bool:
        """Whether another trial may be submitted."""
        self._running = [job for job in self._running if job.poll() is None]
        return self._jobs is None or len(self._running) < self._jobs

    def start(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> Job:
        """Submits a job that runs what ``command`` returns once it has a machine."""
        self._running.append(Job(self._executor.submit(_Attempt(command, folder, environment)), folder))
        return self._running[-1]

    def adopt(self, job: str | None, folder: Path) -> Job | None:
        """The job of an earlier driver, ended or not; ``None`` if there is none, or it was stopped."""
        import submitit

        if self._executor.cluster != "slurm":
            stop_leftovers(folder)
            return None
        if (job := job or self._submitted(folder)) is None:
            return None
        found = Job(submitit.SlurmJob(folder=self._folder, job_id=job, tasks=[0]), folder)
        if found.was_stopped():
            return None
        self._running.append(found)
        return found

    def _submitted(self, folder: Path) -> str | None:
        """The last job for ``folder``: of a driver that was killed before it could write that down."""
        from submitit.core.utils import DelayedSubmission

        pickles = sorted(self._folder.glob("*_submitted.pkl"), key=lambda path: path.stat().st_mtime, reverse=True)
        own = (path for path in pickles if DelayedSubmission.load(path).function.folder == folder)
        return next((path.name.removesuffix("_submitted.pkl") for path in own), None)
