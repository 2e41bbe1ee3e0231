"""From the plain containers of ``conf/sweep.yaml`` and of a sweep's folder to a ``Sweep``, every value checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from ..errors import UserError, nearest
from ..files.json_schema import Line, Number, Open, checked
from .spec import Row, Sweep, check_option, override

__all__ = ["parse"]

_REMEDY = "correct it; conf/sweep.yaml says what it may be"
_MOST_ROWS, _MOST_DEVICES = 10_000, 1024
_SEARCH = {"sampler": "tpe", "seed": 0, "startup": 10, "pruner": None, "warmup": 1}  # what need not be given
_Name = Line | Number | None


class _Trial(TypedDict, total=False):
    name: _Name
    set: list[str] | None
    published: Any
    note: _Name


class _Tree(Open, total=False):
    """A sweep in plain containers, as ``conf/sweep.yaml`` describes it; what is ``Any`` is checked in words below."""

    name: _Name
    title: _Name
    source: _Name
    published_on: _Name
    objective: Line
    direction: _Name
    devices: _Name
    seeds: Annotated[list[_Name], Field(max_length=1000)]
    fixed: list[str] | None
    trials: list[dict[str, Any]] | None
    grid: dict[str, Any] | None
    search: dict[str, Any] | None


class _Values(Open, total=False):
    choices: list[Number | str | None]
    when: dict[str, Number | str | None] | None


class _SearchTree(Open):
    trials: Annotated[int, Field(le=100_000)]
    space: dict[str, _Values]
    sampler: str
    pruner: str | None


def parse(tree: Mapping[str, Any]) -> Sweep:
    """Makes the sweep that plain containers describe.

    Raises:
        UserError: for a key that does not exist, a value that cannot be, or a sweep without trials.
    """
    _known(tree, (*_Tree.__annotations__, "only"), "sweep")
    tree = checked(dict(tree), _Tree, where="sweep", remedy=_REMEDY)
    search, given = tree.get("search") or None, tree.get("seeds") or ()
    seeds = tuple(seed for seed in given if isinstance(seed, int) and 0 <= seed < 2**32)
    if not given or len(set(seeds)) < len(given):
        raise UserError(f"sweep.seeds={given} must be different whole numbers of 0 or more, such as [0,1,2]")
    if tree.get("direction") not in ("maximize", "minimize"):
        raise UserError(f"sweep.direction={tree.get('direction')} is unknown; use maximize or minimize")
    devices = tree.get("devices")
    if not isinstance(devices, int) or not 1 <= devices <= _MOST_DEVICES:
        raise UserError(f"sweep.devices={devices} must be a whole number of 1 or more: the devices of one trial")
    trials, grid = tree.get("trials") or [], tree.get("grid") or {}
    if not (trials or grid or search):
        raise UserError("the sweep varies nothing; give sweep.trials, sweep.grid or sweep.search")
    if search and tree.get("only"):
        raise UserError(f"sweep.only={tree['only']} chooses rows, and a search has none; leave it out")
    if search and (trials or grid):
        raise UserError("sweep.search is given beside sweep.trials or sweep.grid; leave out one of them")
    return Sweep(
        name=str(tree.get("name") or "sweep"),
        title=str(tree.get("title") or tree.get("name") or "sweep"),
        source=str(tree.get("source") or ""),
        published_on=str(tree.get("published_on") or ""),
        objective=str(tree.get("objective")),
        direction=tree["direction"],
        devices=devices,
        seeds=seeds,
        fixed=tuple(tree.get("fixed") or ()),
        rows=() if search else tuple(_chosen(list(_rows(trials, grid)), tree.get("only") or ())),
        search=_search(search) if search else None,
    )


def _search(given: Mapping[str, Any]) -> dict[str, Any]:
    """With every key."""
    _known(given, ("trials", "space", *_SEARCH), "sweep.search")
    search = {**_SEARCH, **given}
    for key, least in (("trials", 1), ("seed", 0), ("startup", 0), ("warmup", 0)):
        value = search.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"sweep.search.{key}={value} must be a whole number of {least} or more")
    space = search.get("space")
    if not isinstance(space, Mapping) or not space or not all(isinstance(each, Mapping) for each in space.values()):
        raise UserError("sweep.search.space must name options, each with choices, or with low and high")
    for name in space:
        check_option(override(name, ""))
    return {**search, **checked(search, _SearchTree, where="sweep.search", remedy=_REMEDY)}


def _known(tree: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    for key in tree:
        if key not in keys:
            raise UserError(f"{where}.{key} does not exist.{nearest(str(key), keys)} It may be: {', '.join(keys)}")


def _chosen(rows: Sequence[Row], only: Any) -> list[Row]:
    """The rows that ``sweep.only`` names, all where it names none; each keeps its place and so its folder."""
    only = list(only) if isinstance(only, Sequence) and not isinstance(only, str) else [only]
    names = [row.name for row in rows]
    for name in only:
        if name not in names:
            raise UserError(
                f"sweep.only={name}: no row has this name.{nearest(str(name), names)} Rows: {'; '.join(names)}"
            )
    return [row for row in rows if not only or row.name in only]


def _rows(trials: Sequence[Mapping[str, Any]], grid: Mapping[str, Sequence[Any]]) -> Iterable[Row]:
    """Every named trial with every combination of the grid."""
    for key, values in grid.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise UserError(f"sweep.grid: {key}: {values} must be a list of values")
    count = math.prod(map(len, grid.values())) * max(1, len(trials))
    if count > _MOST_ROWS:
        raise UserError(f"sweep: {count} rows are more than the {_MOST_ROWS} that a table can have; vary less")
    combinations = [
        [override(key, value) for key, value in zip(grid, values, strict=True)]
        for values in itertools.product(*grid.values())
    ]
    named: Sequence[Mapping[str, Any]] = trials or [{"name": ""}]
    for index, (trial, added) in enumerate(itertools.product(named, combinations)):
        _known(trial, _Trial.__annotations__, f"sweep.trials[{index // len(combinations)}]")
        trial = checked(dict(trial), _Trial, where="sweep.trials", remedy=_REMEDY)
        published = trial.get("published")
        if published is not None and not isinstance(published, int | float):
            raise UserError(f"sweep.trials: published={published} ('{trial.get('name')}') must be a number, in percent")
        options = (*(trial.get("set") or ()), *added)
        words = [str(trial.get("name") or ""), *added]
        name = ", ".join(word for word in words if word) or "as it is"
        yield Row(index, name, options, published, str(trial.get("note") or ""))
