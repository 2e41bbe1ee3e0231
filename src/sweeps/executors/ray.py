"""Trials as tasks of a Ray cluster, or of a Ray that is started on this machine alone."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files.project import pip_install
from ..trial_folder import LOG
from .base import Executor, Handle, stop_leftovers
from .local import Local
from .supervisor import guarded

__all__ = ["RayCluster", "Task"]

_STORE = 80 << 20  # bytes for Ray's objects, of which there are none
_PATIENCE = 60.0  # seconds that a task has to end its trial


class Task(Handle):
    """A trial that waits for a machine or runs on one; started again where Ray lost the machine.

    It has no ``job``: tasks end with their driver.
    """

    def __init__(self, ray: Any, submit: Callable[[], Any], folder: Path, *, restarts: int) -> None:
        self._ray, self._submit, self._folder, self._restarts = ray, submit, folder, restarts
        self._task = submit()
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status, ``None`` while it waits or runs; 1 if nothing could run it, or it was cancelled."""
        if self._status is None and self._ray.wait([self._task], timeout=0)[0]:
            try:
                self._status = self._ray.get(self._task)
            except self._ray.exceptions.TaskCancelledError:
                self._status = 1
            except self._ray.exceptions.RayError as error:
                self._status = self._again(error)
        return self._status

    def _again(self, error: Exception) -> int | None:
        """Submits it once more, unless the task itself failed."""
        lost = not isinstance(error, self._ray.exceptions.RayTaskError)
        with (self._folder / LOG).open("a") as log:
            if not (lost and self._restarts):
                said = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
                log.write(f"error: Ray: {type(error).__name__}: {said[-1]}\n")
                return 1
            log.write(f"Ray lost the process or the machine of this trial ({type(error).__name__}); it starts again\n")
        self._restarts -= 1
        self._task = self._submit()
        return None

    def ask_to_stop(self) -> None:
        self._restarts = 0
        self._ray.cancel(self._task)

    def stop(self) -> None:
        self.ask_to_stop()
        if not self._ray.wait([self._task], timeout=_PATIENCE)[0]:
            self._ray.cancel(self._task, force=True)
        stop_leftovers(self._folder)


class RayCluster(Executor):
    """Hands trials to Ray, as many at a time as its machines hold or ``jobs`` says.

    Args:
        folder: of locks; every machine must see it.
        devices: GPUs of each trial; none are asked for where there are none.
        jobs: trials at a time.
        gpus: those of this machine to use, ``[]`` for the CPU; ``None``: what Ray finds.
        options: ``address``, ``cpus_per_trial`` and ``restarts``, see ``conf/sweep.yaml``.
        patience: minutes without a new file or line in a trial's folder after which it is ended; ``None`` for no end.

    Raises:
        UserError: if Ray is missing or cannot be reached, or no machine can hold a trial.
    """

    def __init__(
        self,
        folder: Path,
        *,
        devices: int,
        jobs: int | None,
        gpus: Sequence[str] | None,
        options: Mapping[str, Any],
        patience: float | None = None,
    ) -> None:
        cpus, restarts = options["cpus_per_trial"], options["restarts"]
        given = {
            "ray.cpus_per_trial": (cpus, 1),
            "ray.restarts": (restarts, 0),
            "jobs": (1 if jobs is None else jobs, 1),
        }
        for name, (number, least) in given.items():
            if not isinstance(number, int) or number < least:
                raise UserError(f"{name}={number} must be a whole number of {least} or more")
        Local([], patience=patience)  # which says what is wrong with it
        self._ray = ray = _connect(options["address"], gpus)
        self._folder, self._jobs, self._restarts, self._running = folder.absolute(), jobs, restarts, []
        self._patience = patience
        needed = devices if gpus != [] and ray.cluster_resources().get("GPU") else 0
        self._needs = {"CPU": cpus, "GPU": needed}
        if not self._room():
            raise UserError(
                f"no machine of Ray's has {cpus} CPUs and {needed} GPUs, which a trial asks for;"
                " lower ray.cpus_per_trial= or sweep.devices="
            )
        self._variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cpus // devices)))}
        if not needed:
            self._variables["CUDA_VISIBLE_DEVICES"] = ""
        self._remote = ray.remote(num_cpus=cpus, num_gpus=needed, max_retries=0)(guarded)
        folder.mkdir(parents=True, exist_ok=True)

    def _room(self) -> int:
        """Trials that fit on the machines together."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        needs = [(kind, number) for kind, number in self._needs.items() if number]
        return sum(min(int(node.get(kind, 0) // number) for kind, number in needs) for node in nodes)

    def free(self) -> bool:
        self._running = [task for task in self._running if task.poll() is None]
        return not self._running or len(self._running) < (self._jobs or self._room())

    def start(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> Task:
        submit = functools.partial(
            self._remote.remote,
            command,
            folder,
            self._folder / f"{folder.name}.lock",
            directory=str(Path.cwd()),
            environment={**environment, **self._variables},
            patience=self._patience,
        )
        self._running.append(Task(self._ray, submit, folder, restarts=self._restarts))
        return self._running[-1]


def _connect(address: str | None, gpus: Sequence[str] | None) -> Any:
    """The module ``ray``, connected."""
    if address and gpus:
        raise UserError(f"gpus={list(gpus)} are this machine's, but ray.address={address} is given; leave gpus=auto")
    if address and address.startswith("ray://"):
        raise UserError(f"ray.address={address} is of Ray's client; use ray.address=auto on a machine of the cluster")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray  # pyrefly: ignore[missing-import]  # an optional package
    except ImportError:
        raise UserError(f"executor=ray needs ray; install it: {pip_install('ray', 'ray==2.60.0')}") from None
    if address and ":" in address:
        _reach(address)
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE}
    if gpus is not None:
        own["num_gpus"] = len(gpus)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else own))
    except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"ray.address={address}: {said}; correct it, or leave it null") from error
    return ray


def _reach(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"ray.address={address} cannot be reached ({error}); correct it, or leave it null") from error
