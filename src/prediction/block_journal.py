"""Records in one file that survive a process that is killed while it writes."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.atomic import naming

__all__ = ["Journal"]

_FRAME = struct.Struct("<II")  # length and checksum of a record


class Journal:
    """Compressed records, only ever added to. On opening, an incomplete last one is cut off.

    Args:
        path: of the file; made if it is missing.
        identity: plain containers, what the records depend on; those of another identity are dropped.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        head = (json.dumps(identity, sort_keys=True) + "\n").encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        if path.is_symlink():  # never write through a link that somebody else left here
            path.unlink()
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._places: list[int] = []
        if self._file.readline() == head:
            end = self._scan(len(head))
        else:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(head)
            end = len(head)
        self._file.truncate(end)
        self._file.seek(end)

    def _scan(self, place: int) -> int:
        """Notes where whole records begin; returns where they end."""
        while True:
            frame = self._file.read(_FRAME.size)
            if len(frame) < _FRAME.size:
                return place
            length, checksum = _FRAME.unpack(frame)
            content = self._file.read(length)
            if len(content) < length or zlib.crc32(content) != checksum:
                return place
            self._places.append(place)
            place += _FRAME.size + length

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def append(self, content: bytes) -> None:
        """Adds a record; it is on the disk when this returns."""
        content = zlib.compress(content, 1)
        self._file.seek(0, os.SEEK_END)
        place = self._file.tell()
        with naming(self.path):
            self._file.write(_FRAME.pack(len(content), zlib.crc32(content)) + content)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._places.append(place)

    def __getitem__(self, index: int) -> bytes:
        self._file.seek(self._places[index])
        length, _ = _FRAME.unpack(self._file.read(_FRAME.size))
        return zlib.decompress(self._file.read(length))
