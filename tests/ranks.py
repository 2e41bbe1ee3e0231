"""Runs ``src.train`` in processes forked from one that has imported everything: a rank each, with faults on request."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

import src.build.from_config
from src.callbacks import non_finite_loss
from src.checkpoints import io
from src.cli import resume
from src.cli.command import command
from src.losses import Supervision
from src.reports import console
from src.training import module

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.ranks"])
_PATIENCE = 300  # seconds, for machines that do five other things


SENT = "the signal is sent"  # in the output of a rank, as late faults may come behind its end


class Fault(NamedTuple):
    """What happens to a rank the ``count``-th time that it comes to ``place``."""

    place: str
    count: int = 1
    rank: int = 0
    signal: int = signal.SIGKILL
    delay: float = 0.0  # seconds from there until it happens, wherever the rank is then


@dataclass
class Ending:
    """How a rank ended: its status, negative for a signal, and what it printed."""

    code: int
    output: str

    @property
    def batches(self) -> int:
        """Of training; known of a rank that was not killed."""
        return int(self.output.rsplit("batches trained: ", 1)[1].split()[0])


def run_ranks(
    folder: Path, *overrides: str, ranks: int = 1, fault: Fault | None = None, env: Mapping[str, str] | None = None
) -> list[Ending]:
    """Trains in ``folder`` as ``ranks`` processes that meet at one port, as ``torchrun`` starts them.

    When one has failed, the others have time to notice; who does not is killed and ends with -9.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outputs = [folder / f"rank_{rank}_{time.monotonic_ns()}.txt" for rank in range(ranks)]
    processes = []
    for rank, output in enumerate(outputs):
        meeting = {
            "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none", "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        variables = {**{name: str(value) for name, value in (meeting if ranks > 1 else {}).items()}, **(env or {})}
        own = fault if fault and fault.rank == rank else None
        process = _CONTEXT.Process(target=_train, args=(folder, list(overrides), variables, output, own))
        process.start()
        processes.append(process)
    join(processes)
    return [Ending(process.exitcode, output.read_text()) for process, output in zip(processes, outputs, strict=True)]


def join(processes: Sequence[Any]) -> None:
    """Waits until processes have ended, and kills those that take longer than they may.

    Process.join with a limit would also wait for their loading processes, which hold the same pipe.
    """
    end = time.monotonic() + _PATIENCE
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        time.sleep(0.05)
        if any(process.exitcode for process in processes):  # one failed; not the time of a whole run for the others
            end = min(end, time.monotonic() + _PATIENCE / 3)
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


def _train(folder: Path, overrides: list[str], variables: dict[str, str], output: Path, fault: Fault | None) -> None:
    if os.getpgrp() != os.getpid():
        os.setsid()  # a group of its own, which a fault may signal as a scheduler would
    multiprocessing.set_start_method("fork", force=True)  # as in a process of its own, for those that load data
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    os.chdir(folder)
    os.environ.update(variables, WANDB_MODE="offline")
    descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    torch.set_num_threads(1)
    sys.argv = ["train", *overrides]
    trained = itertools.count()
    _before(module.SegmentationModule, "training_step")(lambda: next(trained))
    try:
        with _armed(fault) if fault else contextlib.nullcontext():
            command("train")
    finally:
        _over.set()
        print("batches trained:", next(trained))


class _Reached(Exception):
    """Tells a place that changes something itself that it is due."""


@contextlib.contextmanager
def _armed(fault: Fault) -> Iterator[None]:
    """Puts the fault in place, in this process alone."""
    left = fault.count

    def strike() -> None:
        nonlocal left
        left -= 1
        if left:
            return
        if fault.place in _TOLD:
            raise _Reached
        if fault.delay:
            timer = threading.Timer(fault.delay, _send, [fault.signal])
            timer.daemon = True
            return timer.start()
        _send(fault.signal)

    _PLACES[fault.place](strike)
    yield


_over = threading.Event()  # the command has returned, so no signal can reach it


def _send(number: int) -> None:
    if _over.is_set():
        return
    os.write(1, f"\n{SENT}\n".encode())
    if number == signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(os.getpid(), number)  # as a scheduler does: processes that load data get it, too


def _before(owner: Any, name: str) -> Callable[[Callable[[], None]], None]:
    def arm(strike: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def struck(*args: Any, **kwargs: Any) -> Any:
            strike()
            return original(*args, **kwargs)

        setattr(owner, name, struck)

    return arm


def _half_written(strike: Callable[[], None]) -> None:
    save = torch.save

    def half(content: Any, file: Any) -> None:
        file.write(b"PK half a checkpoint")
        file.flush()
        strike()
        file.seek(0)
        file.truncate()
        save(content, file)

    io.torch.save = half


def _not_finite(strike: Callable[[], None]) -> None:
    original = Supervision.forward

    def forward(self: Supervision, outputs: Any, label: torch.Tensor) -> Any:
        total, parts = original(self, outputs, label)
        try:
            strike()
        except _Reached:
            total = total * torch.nan
        return total, parts

    Supervision.forward = forward


def _unused(strike: Callable[[], None]) -> None:
    original = src.build.from_config.build_net

    def build_net(cfg: Any) -> torch.nn.Module:
        net = original(cfg)
        net.forgotten = torch.nn.Conv2d(1, 1, 1)
        return net

    src.build.from_config.build_net = build_net


def _blind(strike: Callable[[], None]) -> None:
    resume.has_checkpoint = lambda folder: False  # a node that does not see the run folder of the others


def _other_parts(strike: Callable[[], None]) -> None:
    """From the ``count``-th batch on a callback logs too, one part of the loss is new, and one is missing."""
    original, callback, reached = Supervision.forward, non_finite_loss.FiniteLoss.on_train_batch_end, False

    def forward(self: Supervision, outputs: Any, label: torch.Tensor) -> Any:
        nonlocal reached
        total, parts = original(self, outputs, label)
        try:
            strike()
        except _Reached:
            reached = True
        if reached:
            parts = {name: part for name, part in parts.items() if name != "aux_s2"} | {"own": torch.tensor(7.0)}
        return total, parts

    def on_train_batch_end(self: non_finite_loss.FiniteLoss, *args: Any) -> None:
        if reached:
            self.log("callback/own", 3.0, on_step=True, on_epoch=True)
        callback(self, *args)

    Supervision.forward = forward
    non_finite_loss.FiniteLoss.on_train_batch_end = on_train_batch_end


def _full_disk(strike: Callable[[], None]) -> None:
    """Stands for one: no file may grow beyond 60 kB."""
    save = torch.save

    def limited(content: Any, file: Any) -> None:
        try:
            strike()
        except _Reached:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        save(content, file)

    io.torch.save = limited


_PLACES = {
    "other parts": _other_parts,
    "full disk": _full_disk,
    "unused parameter": _unused,
    "no checkpoint to be seen": _blind,
    "step": _before(module.SegmentationModule, "training_step"),
    "update": _before(module.SegmentationModule, "on_before_optimizer_step"),
    "validation": _before(module.SegmentationModule, "validation_step"),
    "scores": _before(module.SegmentationModule, "on_validation_epoch_end"),
    "before saving": _before(io.AtomicCheckpointIO, "save_checkpoint"),
    "in saving": _half_written,
    "before renaming": _before(io.os, "fsync"),
    "after renaming": _before(io, "_sync_folder"),
    "loss": _not_finite,
    "test": _before(module.SegmentationModule, "test_step"),
    "start": _before(src.build.from_config, "build_datamodule"),
    "writing scores": _before(console, "scores"),
    "pictures": _before(console, "pictures"),
}
_TOLD = ("loss", "other parts", "full disk")


def _elastic() -> None:
    """A rank that ``torchrun`` starts: its first life has the fault that ``FAULT`` spells as place, count and rank."""
    life, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["LOCAL_RANK"]
    place, count, struck = os.environ["FAULT"].split()
    fault = Fault(place, int(count)) if (life, struck) == ("0", rank) else None
    _train(Path(), sys.argv[1:], {}, Path(f"life_{life}_rank_{rank}.txt"), fault)


if __name__ == "__main__":
    _elastic()
