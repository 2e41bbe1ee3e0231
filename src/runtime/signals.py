"""What the signals of a scheduler do: SIGTERM ends a run, SIGUSR1 has its SLURM job queued again first."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from .run_lock import first_process

__all__ = ["STOPPING", "leave", "listen", "requeue", "stoppable"]

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))  # Windows has one


def stoppable(task: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator: while ``task`` runs, either signal ends it by ``SystemExit``, as long as nobody else listens.

    So does an error that a signal or Ctrl-C has caused, by coming where a library was not prepared for an end; and
    either is sent again where it came while Python ignores exceptions, as in ``__del__`` and in compiled code.
    """

    @functools.wraps(task)
    def run(*arguments: Any) -> Any:
        before = {number: signal.getsignal(number) for number in STOPPING}
        hook = sys.unraisablehook
        listen(leave)
        sys.unraisablehook = functools.partial(_send_again, otherwise=hook)
        try:
            return task(*arguments)
        except Exception as error:
            if stop := _stop_behind(error):
                raise stop from None
            raise
        finally:
            sys.unraisablehook = hook
            for number, handler in before.items():
                _set(number, handler)

    return run


def listen(handler: Callable[[int, Any], Any]) -> None:
    """Calls ``handler`` with number and frame when either signal comes; in the main thread only, as Python has it."""
    for number in STOPPING:
        _set(number, handler)


def leave(number: int, frame: Any = None) -> None:
    """Ends this process with the status 128 + ``number``; the first of a run has its job queued again for SIGUSR1.

    Other processes end with the first, and wait for that on SIGUSR1: a launcher may kill all when one has ended.
    """
    if number != signal.SIGTERM:
        if not first_process():
            return
        requeue()
    raise SystemExit(128 + number)


def requeue() -> None:
    """Queues the job of SLURM again that this process belongs to, if it does."""
    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if job and scontrol:
        queued = subprocess.run([scontrol, "requeue", job], check=False).returncode == 0
        print(f"job {job} {'is queued again' if queued else 'could not be queued again'}", flush=True)


def _stop_behind(error: BaseException | None) -> BaseException | None:
    """What ended the process before ``error`` came up in tidying, if that is how it came."""
    while error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
        error = error.__cause__ or error.__context__
    return error


def _send_again(ignored: sys.UnraisableHookArgs, *, otherwise: Callable[[sys.UnraisableHookArgs], Any]) -> None:
    """Sends the signal once more that has raised the exception which Python ``ignored``; others go to ``otherwise``."""
    value = ignored.exc_value
    number = signal.SIGINT if isinstance(value, KeyboardInterrupt) else None
    if isinstance(value, SystemExit):
        number = next((each for each in STOPPING if value.code == 128 + each), None)
    if number is None:
        otherwise(ignored)
    else:  # a moment later, when Python listens to exceptions again
        send = os.kill if hasattr(signal, "pthread_kill") else _raise  # ``os.kill`` ends a process of Windows at once
        threading.Timer(0.05, send, (os.getpid(), number)).start()


def _raise(_: int, number: int) -> None:
    signal.raise_signal(number)


def _set(number: int, handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():  # None: not set by Python
        signal.signal(number, handler)
