"""Runs a sweep to its end: starts trials where there is room, records how they end, resumes after any kill."""

from __future__ import annotations

import functools
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.atomic import locked
from ..files.project import PACKAGE
from . import trial_folder as files
from .executors.base import MARK, Executor, Handle
from .journal import Journal, last_records
from .scheduler import Listed, Plan, Search
from .spec import Sweep, Trial

__all__ = ["JOURNAL", "Driver", "train_command"]

JOURNAL = "journal.jsonl"


def train_command(devices: int) -> list[str]:
    """What starts ``src.train`` on so many devices."""
    if devices == 1:
        return [sys.executable, "-m", f"{PACKAGE}.train"]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    return [sys.executable, *launcher, "-m", f"{PACKAGE}.train"]


def attempt(command: list[str], folder: Path, options: list[str]) -> list[str]:
    """The command of a trial; made when it starts, since it depends on what lies in its folder then."""
    files.make_ready(folder)
    files.begin_log(folder)
    return [*command, *files.arguments(folder, options)]


class Driver:
    """One sweep in one folder.

    Args:
        sweep: what to run.
        folder: holds the journal, and a folder for each trial under ``trials``.
        executor: where trials run.
        command: takes the number of devices, returns what runs a trial.
        retry_failed: failed trials are run again.
        poll: seconds between two looks at the trials.
        say: prints a line.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        *,
        executor: Executor,
        command: Callable[[int], list[str]] = train_command,
        retry_failed: bool = False,
        poll: float = 0.5,
        say: Callable[[str], Any] = print,
    ) -> None:
        self._sweep, self._folder, self._executor = sweep, folder.absolute(), executor
        self._command, self._retry, self._poll, self._say = command(sweep.devices), retry_failed, poll, say
        self._running: dict[Trial, tuple[Handle, float]] = {}

    def run(self) -> None:
        """Runs until all trials have ended; those that ended before are left alone.

        Raises:
            UserError: if another driver holds the folder, or this one was stopped by Ctrl-C or SIGTERM.
        """
        with (
            locked(self._folder, "running this sweep"),
            Journal(self._folder / JOURNAL) as self._journal,
            _interruptible(),
        ):
            started, ended = (last_records(self._journal.records, event) for event in ("start", "end"))
            self._lost = {name: record for name, record in started.items() if name not in ended}
            if self._retry:
                ended = {name: record for name, record in ended.items() if record["status"] != "failed"}
            self._plan = self._make_plan(ended)
            try:
                self._loop()
            except KeyboardInterrupt:
                self._stop_all()
                how = shlex.quote(f"resume={self._folder}")
                raise UserError(f"stopped; resume with: python -m src.sweep {how}") from None

    def _make_plan(self, ended: Mapping[str, Mapping[str, Any]]) -> Plan:
        if not self._sweep.search:
            return Listed(self._sweep, ended)
        suggested = [record for record in self._journal.records if record["event"] == "suggest"]
        return Search(self._sweep, suggested, ended, note=functools.partial(self._journal.append, "suggest"))

    def _loop(self) -> None:
        while True:
            while self._executor.free() and (trial := self._plan.next()):
                self._start(trial)
            if not self._running:
                return
            time.sleep(self._poll)
            for trial, (handle, _) in list(self._running.items()):
                status = handle.poll()
                if status is not None:
                    self._end(trial, status)
                elif self._sweep.search and self._plan.should_prune(trial, self._curve(trial)):
                    handle.stop()
                    self._end(trial, None)

    def _start(self, trial: Trial) -> None:
        """Starts a trial, or takes over one that an earlier driver left."""
        folder, before = self._folder / "trials" / trial.id, self._lost.pop(trial.id, None)
        files.check_place(folder)
        handle, how = self._executor.adopt(before.get("job"), folder) if before else None, "adopted"
        if handle is None:
            if before and self._has_ended(trial, folder, before):
                return self._end(trial, 0)
            handle, how = self._launch(trial, folder)
        self._running[trial] = (handle, time.time())
        self._say(f"{trial.id}: {how}")

    def _has_ended(self, trial: Trial, folder: Path, before: Mapping[str, Any]) -> bool:
        """Notes the time of an attempt that nobody watched to its end; whether it has left a result nevertheless."""
        if trial.id not in last_records(self._journal.records, "lost"):  # or its time would count twice
            self._journal.append("lost", trial=trial.id, seconds=files.lasted(folder, before["time"]))
        return files.value(folder, self._sweep.objective, self._sweep.direction) is not None

    def _launch(self, trial: Trial, folder: Path) -> tuple[Handle, str]:
        folder.mkdir(parents=True, exist_ok=True)
        make = functools.partial(attempt, self._command, folder, self._sweep.options(trial))
        resumed = files.arguments(folder, [])[0].startswith("resume=")
        # Written before the trial starts: if this driver is killed in between, the next one looks for its processes.
        self._journal.append("start", trial=trial.id, resumed=resumed)
        names = {"WANDB_RUN_GROUP": self._folder.name, "WANDB_NAME": trial.id}
        handle = self._executor.start(make, folder, {**names, MARK: str(folder)})
        if handle.job is not None:
            self._journal.append("start", trial=trial.id, resumed=resumed, job=handle.job)
        return handle, "started, from its last checkpoint" if resumed else "started"

    def _end(self, trial: Trial, code: int | None) -> None:
        """``code`` is the exit status; ``None``: pruned."""
        _, begun = self._running.pop(trial, (None, time.time()))
        folder, curve = self._folder / "trials" / trial.id, self._curve(trial)
        value, message = files.value(folder, self._sweep.objective, self._sweep.direction), ""
        status = "done"
        if code is None:
            status, value = "pruned", curve[-1][1] if curve else None
        elif code != 0:
            status, value, message = "failed", None, files.reason(folder, code)
        elif value is None:
            status, message = "failed", f"it ended well but left no '{self._sweep.objective}'; see sweep.objective"
        seconds = round(time.time() - begun, 1)
        record: dict[str, Any] = {"trial": trial.id, "status": status, "value": value, "seconds": seconds}
        if message:
            record |= {"message": message, "code": code}
        if self._sweep.search:
            record["curve"] = curve
        self._plan.ended(trial, self._journal.append("end", **record))
        shown = f" {self._sweep.objective} {value:.4f}" if value is not None else ""
        self._say(f"{trial.id}: {status}{shown}{f' ({message})' if message else ''}")

    def _curve(self, trial: Trial) -> list[tuple[int, float]]:
        """Steps and values of the objective, if it is one that is logged during training."""
        known = "/" in self._sweep.objective
        return files.curve(self._folder / "trials" / trial.id, self._sweep.objective) if known else []

    def _stop_all(self) -> None:
        handles = [handle for handle, _ in self._running.values()]
        for handle in handles:
            handle.ask_to_stop()
        for handle in handles:
            handle.stop()


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
