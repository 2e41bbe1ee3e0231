"""The events of a sweep, one JSON object a line: only ever added to, on the disk before the next step is taken."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field

from ..errors import UserError
from ..files.atomic import naming
from ..files.json_schema import Count, Finite, Line, Number, Open
from ..files.untrusted import MiB, limited, parsed

__all__ = ["Journal", "last_records", "read_journal"]

_LARGEST = 256 * MiB


class _Event(Open):
    trial: Line
    time: Finite


class _Start(_Event):
    event: Literal["start"]
    resumed: bool
    job: NotRequired[Annotated[str, Field(pattern=r"^[0-9]+(_[0-9]+)?$")] | None]


class _End(_Event):
    event: Literal["end"]
    status: Literal["done", "pruned", "failed"]
    value: Finite | None
    seconds: Annotated[Finite, Field(ge=0)]
    message: NotRequired[Line]
    curve: NotRequired[list[Annotated[list[Finite], Field(min_length=2, max_length=2)]]]


class _Lost(_Event):
    event: Literal["lost"]
    seconds: Annotated[Finite, Field(ge=0)]


class _Suggest(Open):
    event: Literal["suggest"]
    row: Count
    params: dict[str, Number | bool | str | None]


def _whole(record: dict[str, Any]) -> dict[str, Any]:
    if record["event"] == "end" and record["status"] == "done" and record["value"] is None:
        raise ValueError("a trial that is done should have a value")
    if record["event"] == "end" and record["status"] == "failed" and "message" not in record:
        raise ValueError("a trial that has failed should have a message")
    return record


_Record: Any = Annotated[_Start | _End | _Lost | _Suggest, Field(discriminator="event"), AfterValidator(_whole)]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a journal, without a last line that was cut short; none if there is no file.

    Raises:
        UserError: for a line within that is no record, or a link: what is added would go elsewhere.
    """
    if path.is_symlink():
        raise UserError(f"{path}: is a link; put the file itself there")
    if not path.exists():
        return []
    remedy = "delete that line to resume without it"
    lines = limited(path, _LARGEST, remedy="start a new sweep").split(b"\n")[:-1]
    return [
        parsed(line, _Record, where=f"{path}: line {number} is no record", remedy=remedy)
        for number, line in enumerate(lines, 1)
    ]


def last_records(records: list[dict[str, Any]], event: str) -> dict[str, dict[str, Any]]:
    """The newest record of ``event`` for each trial; a later start makes an earlier end void."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["event"] == event:
            found[record["trial"]] = record
        elif record["event"] == "start":
            found.pop(record["trial"], None)
    return found


class Journal:
    """The records of a sweep, and adding to them.

    Args:
        path: of the file; made if it is missing, and a last line that was cut short is removed.
    """

    def __init__(self, path: Path) -> None:
        self.records = read_journal(path)
        self._path = path
        self._file = path.open("ab")
        content = path.read_bytes()
        self._file.truncate(content.rfind(b"\n") + 1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, event: str, **record: Any) -> dict[str, Any]:
        """Adds a record with the time; it is on the disk when this returns."""
        record = {"event": event, **record, "time": round(time.time(), 2)}
        with naming(self._path):
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.records.append(record)
        return record
