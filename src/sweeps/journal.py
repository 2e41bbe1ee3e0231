"""What has happened, one JSON object a line: only ever added to, on the disk before the next step is taken."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.files import naming

__all__ = ["Journal", "last_records", "read_journal"]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a journal, without a last line that was cut short; none if there is no file.

    Raises:
        UserError: for a line within that is no record.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}: line {number} is no record; delete that line to go on without it") from None
    return records


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
