"""What a sweep is: rows of options, seeds, fixed options, and the table of a paper that it is compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..files.project import CONFIG_DIR

__all__ = ["Row", "Sweep", "Trial", "check_option", "override"]

_OF_TRAIN = re.compile(r"(?:\+{0,2}[A-Za-z_][\w.@/:-]*=|~[A-Za-z_][\w.@/:-]*(?:=|$))")  # and no flag
_OWN = ("hydra", "resume", "run_dir")  # Hydra itself could be told to run anything; the others are the sweep's to give


@dataclass(frozen=True)
class Row:
    """A line of the table: its place and name, the options that make it, and the figure of the paper, in percent.

    Raises:
        UserError: for an option that is not one of ``src.train`` or is not for a trial.
    """

    index: int
    name: str
    options: tuple[str, ...]
    published: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for option in self.options:
            check_option(option)


@dataclass(frozen=True)
class Trial:
    """A row with a seed: one process and one folder."""

    row: Row
    seed: int

    @property
    def id(self) -> str:
        """Name of its folder."""
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", self.row.name).strip("-.")[:48]
        return f"{self.row.index:02d}_{slug}_seed{self.seed}"


@dataclass(frozen=True)
class Sweep:
    """A sweep that makes sense: see ``conf/sweep.yaml`` for what each field may be.

    Raises:
        UserError: for an option in ``fixed`` that is not one of ``src.train`` or is not for a trial.
    """

    name: str
    title: str
    source: str
    published_on: str
    objective: str
    direction: str
    devices: int
    seeds: tuple[int, ...]
    fixed: tuple[str, ...]
    rows: tuple[Row, ...]
    search: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        for option in self.fixed:
            check_option(option)

    @property
    def unit(self) -> int:
        """Factor on values that are shown: scores, which are fractions, are shown in percent; losses as they are."""
        return 100 if self.direction == "maximize" else 1

    @property
    def column(self) -> str:
        """The objective with its unit."""
        return f"{self.objective} %" if self.unit == 100 else self.objective

    def shown(self, value: float) -> str:
        """``value`` of the objective as text."""
        return f"{100 * value:.2f}" if self.unit == 100 else f"{value:.4g}"

    def trials(self, row: Row) -> list[Trial]:
        """One for each seed."""
        return [Trial(row, seed) for seed in self.seeds]

    def samples(self) -> list[Row]:
        """The rows; of a search, rows in which every option occurs with each choice, none of which is run."""
        rows = list(self.rows)
        space = self.search["space"] if self.search else {}
        for name, given in space.items():
            for value in given.get("choices") or (given["low"], given["high"]):
                chosen = {**(given.get("when") or {}), name: value}
                rows.append(Row(len(rows), name, tuple(override(each, value) for each, value in chosen.items())))
        return rows

    def options(self, trial: Trial) -> list[str]:
        """What ``src.train`` is told for ``trial``; later options win."""
        strategy = "ddp" if self.devices > 1 else "auto"
        several = [f"trainer.devices={self.devices}", "trainer.num_nodes=1", f"trainer.strategy={strategy}"]
        return [*several, *self.fixed, *trial.row.options, f"seed={trial.seed}"]


def override(name: str, value: Any) -> str:
    """``name=value`` as Hydra reads it."""
    return f"{name}={_written(value)}"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value)


def check_option(option: str) -> None:
    """Refuses what would make a trial more than ``python -m src.train`` with values for its own options.

    The record of a sweep may come from anywhere. Hydra runs what its own keys name, and reads any file as the choice of
    a group; a flag may name a folder of other configs; a resolver may put an environment variable into an address.

    Raises:
        UserError: naming the option.
    """
    key, _, value = option.lstrip("+~").partition("=")
    parts = re.split(r"[.@/:]", key)
    if not _OF_TRAIN.match(option) or not option.isprintable() or "" in parts:
        what = "is no option of src.train; write name=value"
    elif own := set(parts) & set(_OWN):
        what = f"cannot be given to a trial: {own.pop()} is not its own; leave it out"
    elif re.search(r"\$\{[^}]*:", value):
        what = "has a resolver, which reads what is not in the config; write the value itself"
    elif (CONFIG_DIR / key.split("@")[0]).is_dir() and not re.fullmatch(r"[\w'\"\[\], -]*", value):
        what = f"must name an option of {key}, not a file; python -m src.train --help lists them"
    else:
        return
    raise UserError(f"sweep: {option[:200]!r} {what}")
