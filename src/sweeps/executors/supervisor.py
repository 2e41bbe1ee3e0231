"""Runs a trial for a process that may vanish, and never beside an earlier attempt at it on any machine."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

from ...files.portable import hold
from ...files.project import PACKAGE, PROJECT
from ..trial_folder import LOG
from .base import stop_leftovers
from .local import Local

__all__ = ["guarded"]

_LOOK = 0.2  # seconds between two looks
_EARLIER = 600.0  # seconds that an earlier attempt has to end


def guarded(
    command: Callable[[], list[str]],
    folder: Path,
    lock: Path,
    *,
    directory: str,
    environment: Mapping[str, str],
    patience: float | None = None,
) -> int:
    """Runs what ``command`` returns in ``directory`` and returns its exit status; ``patience`` as for ``Local``.

    Its processes end when the one that called this does, even killed with -9; ``lock`` is held until they have ended.

    Raises:
        TimeoutError: if an earlier attempt does not end.
    """
    with lock.open("ab") as file, (folder / LOG).open("ab") as log:
        _hold(file.fileno(), lock)
        stop_leftovers(folder)
        order = {
            "command": command(),
            "folder": str(folder),
            "directory": directory,
            "environment": dict(environment),
            "patience": patience,
        }
        guard = subprocess.Popen(
            [sys.executable, "-m", f"{PACKAGE}.sweeps.executors.supervisor", json.dumps(order)],
            stdin=subprocess.PIPE,  # its end tells the guard to stop the trial
            stdout=subprocess.PIPE,  # on which it writes the exit status
            stderr=log,
            cwd=PROJECT,
            pass_fds=[file.fileno()],  # only the guard has the lock from now on
            start_new_session=True,
        )
    alive, outcome = cast("IO[bytes]", guard.stdin), cast("IO[bytes]", guard.stdout)
    guard.wait()  # it continues as a grandchild
    try:
        while not select.select([outcome], [], [], _LOOK)[0]:
            pass  # Ray interrupts between two lines of Python, not within a call
    finally:
        alive.close()
        status = outcome.read()
    if not status:  # the guard itself was killed
        stop_leftovers(folder)
    return int(status or -signal.SIGKILL)


def _hold(lock: int, path: Path) -> None:
    deadline = time.monotonic() + _EARLIER
    while True:
        try:
            return hold(lock)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path}: an earlier attempt at this trial still runs on some machine") from None
        time.sleep(_LOOK)


def _main(order: str) -> None:
    """The guard: ends the trial once standard input is at its end, and writes the exit status to standard output."""
    if os.fork():
        os._exit(0)  # Ray kills the children of its processes, not their grandchildren
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's processes block SIGINT
    given = json.loads(order)
    os.chdir(given["directory"])
    here = Local([given["environment"]], patience=given["patience"])
    trial = here.start(lambda: given["command"], Path(given["folder"]), {})
    while (status := trial.poll()) is None:
        if select.select([sys.stdin], [], [], _LOOK)[0]:
            trial.stop()
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), str(status).encode())


if __name__ == "__main__":
    _main(sys.argv[1])
