"""``python -m src.sweep`` with the stub in place of ``src.train``, under the real torchrun."""

from __future__ import annotations

import functools

from src.cli.command import command
from src.commands import sweep
from src.sweeps import Driver, train_command
from tests.sweeps.drive import STUB


def _stub(devices: int) -> list[str]:
    return [*train_command(devices)[:-2], STUB, f"{devices}"]


if __name__ == "__main__":
    assert train_command(2)[-2:] == ["-m", "src.train"]
    sweep.Driver = functools.partial(Driver, command=_stub)
    command("sweep", sweep.sweep)
