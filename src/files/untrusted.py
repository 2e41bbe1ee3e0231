"""Files of runs, sweeps, shards and caches, read as if a stranger had written them.

What is read has a limit, is of a given shape, and holds finite numbers; whatever is not so ends in a ``UserError`` that
names the file and the entry. Nothing that a file says is imported, called or looked up elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..errors import UserError, printable
from .json_schema import DEEPEST, checked

__all__ = ["MiB", "limited", "parsed", "read_bytes", "read_curves", "read_json", "read_text", "read_yaml"]

MiB = 2**20
_LIMITS = {".yaml": 4 * MiB, ".json": 64 * MiB, ".csv": 256 * MiB}  # far above what thousands of classes or steps need
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

T = TypeVar("T")


def limited(path: Path, limit: int, *, remedy: str) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        UserError: for a file that cannot be read or is larger; ``remedy`` ends its sentence.
    """
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            there = "is no regular file" if path.exists() else "is not there"
            raise UserError(f"{path}: {there}; {remedy}")
        size, content = path.stat().st_size, b""
        if size <= limit:
            with path.open("rb") as file:
                content = file.read(size + 1)
                if len(content) > size:  # it grows
                    content += file.read(limit)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}") from error
    if max(size, len(content)) > limit:
        raise UserError(f"{path}: has more than {limit / MiB:g} MiB, which none of its kind needs; {remedy}")
    return content


def read_bytes(path: Path, limit: int, *, remedy: str) -> bytes:
    """A file of a run.

    A link is followed within its own folder only: a run from elsewhere could show any file of this computer on a page.

    Raises:
        UserError: for such a link, and as ``limited``.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(f"{path}: is a link to a place outside of its folder; put the file itself there")
    return limited(path, limit, remedy=remedy)


def read_text(path: Path, *, remedy: str) -> str:
    """A text file of a run, in UTF-8.

    Raises:
        UserError: for other bytes, and as ``read_bytes``.
    """
    try:
        return read_bytes(path, _LIMITS.get(path.suffix, MiB), remedy=remedy).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is broken (byte {error.start} is not UTF-8); {remedy}") from error


def read_json(path: Path, kind: type[T], *, remedy: str) -> T:
    """A JSON file of a run.

    Args:
        path: of the file, of at most 64 MiB.
        kind: what it must hold, as for ``parsed``.
        remedy: ends the sentence of an error.

    Raises:
        UserError: as ``read_text`` and ``parsed``.
    """
    return parsed(read_text(path, remedy=remedy), kind, where=str(path), remedy=remedy)


def parsed(text: str | bytes, kind: type[T], *, where: str, remedy: str) -> T:
    """The value that JSON spells.

    Args:
        text: the JSON; ``NaN`` and ``Infinity`` are none, and nesting has 64 levels at most.
        kind: a type that pydantic knows.
        where: names the text in an error.
        remedy: ends the sentence of an error.

    Raises:
        UserError: for no JSON, or another kind.
    """
    try:
        tree = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise UserError(f"{where}: is broken (nested too deeply); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{where}: is broken ({printable(str(error))}); {remedy}") from error
    return checked(tree, kind, where=where, remedy=remedy)


def read_yaml(path: Path, *, remedy: str) -> dict[str, Any]:
    """A mapping in a YAML file of at most 4 MiB, in plain containers; without anchors, and nested 64 levels at most.

    Raises:
        UserError: for anything else, and as ``read_text``.
    """
    text = read_text(path, remedy=remedy)
    try:
        _check_events(text)
        tree = yaml.load(text, _LOADER)
    except (yaml.YAMLError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: is broken ({printable(' '.join(str(error).split()))}); {remedy}") from error
    return checked({} if tree is None else tree, dict[str, Any], where=str(path), remedy=remedy)


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalar -> steps and values of ``metrics.csv``, in its order; none where there is no file.

    A last line that is being written does not count. Values may be nan: training writes down what it saw.

    Raises:
        UserError: for a file that is not of columns ``step``, ``epoch`` and scalars, naming the line.
    """
    if not path.exists():
        return {}
    remedy = "correct or remove that line, or remove the file"
    whole = read_text(path, remedy=remedy).rpartition("\n")[0]
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        rows = csv.reader(io.StringIO(whole, newline=""), strict=True)
        columns = next(rows, [])
        if whole and (columns[:1] != ["step"] or len(set(columns)) < len(columns)):
            raise ValueError("its columns are not step, epoch and scalars")
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"line {rows.line_num} has {len(row)} cells for {len(columns)} columns")
            step = _step(row[0], rows.line_num)
            for name, cell in zip(columns[1:], row[1:], strict=True):
                if cell:
                    curves.setdefault(name, []).append((step, _number(cell, rows.line_num)))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: is broken ({printable(str(error))}); {remedy}") from error
    return curves


def _step(cell: str, line: int) -> int:
    if not (cell.isdecimal() and len(cell) < 16):
        raise ValueError(f"line {line}: step {cell[:40]!r} is no whole number")
    return int(cell)


def _number(cell: str, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"line {line}: {cell[:40]!r} is no number") from None


def _check_events(text: str) -> None:
    """Before anything is built of them: whatever is refused costs no more than reading it."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which no file of a run has")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError("nested too deeply")


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(word: str) -> float:
    number = float(word)
    return number if math.isfinite(number) else _refuse(word)
