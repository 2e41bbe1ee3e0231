"""What is in a set of shards: the index of a split, and the table of a shard that says where each file in it lies.

A shard is a tar archive in the format of WebDataset: ``<key>.<image suffix>``, ``<key>.label.png`` (train ids, 8-bit
grey; left out where there is no label), ``<key>.json`` (name, height, width), one sample after the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.data.label_space import LabelSpace
from src.errors import UserError, nearest
from src.files import write_bytes

__all__ = ["LABEL_SUFFIX", "Shard", "ShardIndex", "ShardTable", "scan", "table_of"]

LABEL_SUFFIX = "label.png"
_FORMAT = "semseg shards 1"
_COLUMNS = 8  # image: offset, bytes, crc32; label: the same, offset -1 for none; height, width


class Shard(NamedTuple):
    """One shard: its file beside the index, and what it must hold.

    ``end`` is the sample of the source that follows its last; ``left_out`` says why samples before that are missing.
    """

    file: str
    samples: int
    bytes: int
    sha256: str
    end: int
    left_out: list[str]


@dataclass(frozen=True)
class ShardIndex:
    """The file ``<split>.json``: label space, and the shards finished; ``source`` marks what they are of."""

    split: str
    source: str
    names: list[str]
    colors: list[list[int]]
    categories: list[str] | None
    shards: list[Shard]
    complete: bool = False

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def label_space(self) -> LabelSpace:
        return LabelSpace(self.names, self.colors, categories=self.categories)

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        shards = [shard._asdict() for shard in self.shards]
        content = {"format": _FORMAT, "samples": self.samples, **asdict(self), "shards": shards}
        write_bytes(path, json.dumps(content).encode(), shared=True)

    @classmethod
    def load(cls, path: Path) -> ShardIndex:
        """Read it.

        Raises:
            UserError: where there is none, naming the splits that there are, or it is no index.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            if content.pop("format") != _FORMAT:
                raise ValueError
            content.pop("samples")
            return cls(**content | {"shards": [Shard(**shard) for shard in content["shards"]]})
        except OSError as error:
            splits = sorted(other.stem for other in path.parent.glob("*.json"))
            there = f"there is {', '.join(splits)}" if splits else "there are no shards"
            raise UserError(
                f"{path}: index of split '{path.stem}' cannot be read ({there});{nearest(path.stem, splits)} correct"
                f" data.root or data.splits, or write it: python -m src.shards data=... split={path.stem}"
                f" out={path.parent}"
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: is no index of shards that this version wrote; write the shards anew with src.shards"
            ) from error


class ShardTable(NamedTuple):
    """Where the samples of shards lie: ``places`` (n,8) int64, and their names in one string ending at ``ends`` (n,).

    Columns: offset, bytes and crc32 of the image, of the label (offset -1: none), height, width.
    """

    places: np.ndarray
    names: bytes
    ends: np.ndarray


def table_of(path: Path, shard: Shard) -> ShardTable:
    """The table of a shard from the file ``.npz`` beside it; made of the shard where that is missing or of another.

    Raises:
        UserError: if it must be made and the shard is not what its index says, naming it.
    """
    beside = path.with_suffix(".npz")
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(beside) as kept:
        if str(kept["sha256"]) == shard.sha256:
            return ShardTable(kept["places"], kept["names"].tobytes(), kept["ends"])
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
            raise UserError(
                f"{path}: shard is not the one that its index lists (other sha256), so it was changed or damaged; copy"
                " it again, or remove it and repeat the command that wrote it"
            )
    table = scan(path)
    content = io.BytesIO()
    names = np.frombuffer(table.names, np.uint8)
    np.savez(content, sha256=shard.sha256, places=table.places, names=names, ends=table.ends)
    with suppress(OSError):  # of a place that cannot be written the table is made at every start
        write_bytes(beside, content.getvalue(), shared=True)
    return table


def scan(path: Path) -> ShardTable:
    """Read a shard through for its table, in memory that does not grow but by the table."""
    places, ends, names = array("q"), array("q"), bytearray()
    entry: dict[str, tuple[int, int, int]] = {}
    with path.open("rb") as file:
        for suffix, offset, size in _members(path):
            content = os.pread(file.fileno(), size, offset)
            if suffix != "json":
                entry["label" if suffix == LABEL_SUFFIX else "image"] = offset, size, zlib.crc32(content)
                continue
            about = json.loads(content)
            places.extend((*entry["image"], *entry.get("label", (-1, 0, 0)), about["height"], about["width"]))
            names += about["name"].encode(errors="surrogateescape")
            ends.append(len(names))
            entry.clear()
    whole = np.frombuffer(places, np.int64) if places else np.empty(0, np.int64)
    return ShardTable(whole.reshape(-1, _COLUMNS), bytes(names), np.array(ends, np.int64))


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Suffix, offset and size of each file in a shard."""
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            yield member.name.split(".", 1)[1], member.offset_data, member.size
            tar.members.clear()  # tarfile would keep them all
