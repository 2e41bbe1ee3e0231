"""Long class tables, kept as text: one class a line, ``name R G B`` and the values that stand for it in label files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ..label_space import IGNORE_INDEX, LabelSpace

__all__ = ["ClassTable", "class_table"]

_FOLDER = Path(__file__).parent / "tables"
_LINE = re.compile(r"(?P<name>.+?)(?P<numbers>(?:\s+\d+){3,})")
_IGNORED = "ignore"


class ClassTable(NamedTuple):
    """Classes in train-id order, their RGB colours (0..255), and stored value -> train id or 255."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, ...], ...]
    values: dict[int, int]

    @property
    def label_space(self) -> LabelSpace:
        """The classes as label files hold them."""
        return LabelSpace(self.names, self.colors, file_values=self.values)


def class_table(name: str) -> ClassTable:
    """The table ``tables/<name>.txt``.

    The n-th line is train id n. A line without values stands for the value n; lines called ``ignore`` are not classes:
    their values read as 255. Lines that start with ``#`` are left out.
    """
    names: list[str] = []
    colors: list[tuple[int, ...]] = []
    values: dict[int, int] = {}
    for line in (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise ValueError(f"tables/{name}.txt: '{line}' must be 'name R G B' and the values of the class")
        numbers = [int(number) for number in match["numbers"].split()]
        train_id = IGNORE_INDEX if match["name"] == _IGNORED else len(names)
        values |= dict.fromkeys(numbers[3:] or [train_id], train_id)
        if train_id != IGNORE_INDEX:
            names.append(match["name"])
            colors.append(tuple(numbers[:3]))
    return ClassTable(tuple(names), tuple(colors), values)
