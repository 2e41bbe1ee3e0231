"""The table of a shard: where each file in it lies. It is kept beside the shard, and made of it where it is missing."""

from __future__ import annotations

import io
import math
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from ...errors import UserError
from ...files.atomic import sha256, write_bytes
from ...files.json_schema import Open
from ...files.portable import read_at
from ...files.untrusted import MiB, limited, parsed
from .index import LABEL_SUFFIX, Shard

__all__ = ["ShardTable", "scan", "table_of"]

_LONGEST_SIDE = 10**6  # pixels
_COLUMNS = 8  # image: offset, bytes, crc32; label: the same, offset -1 for none; height, width


class _About(Open):
    """The ``<key>.json`` of a sample."""

    name: str
    height: Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]
    width: Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]


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
    with suppress(OSError, ValueError, KeyError, EOFError, UserError, RuntimeError, zipfile.BadZipFile):
        return _kept(beside, shard)
    if sha256(path) != shard.sha256:
        raise UserError(
            f"{path}: shard is not the one that its index lists (other sha256), so it was changed or damaged; copy it"
            " again, or remove it and repeat the command that wrote it"
        )
    table = scan(path)
    try:
        _check(table, shard)
    except ValueError as error:
        raise UserError(
            f"{path}: shard is not what its index says ({error}); write it again with src.shards"
        ) from error
    content = io.BytesIO()
    names = np.frombuffer(table.names, np.uint8)
    np.savez(content, sha256=shard.sha256, places=table.places, names=names, ends=table.ends)
    with suppress(OSError):  # of a place that cannot be written the table is made at every start
        write_bytes(beside, content.getvalue(), shared=True)
    return table


def _kept(path: Path, shard: Shard) -> ShardTable:
    """The table in a file ``.npz``, which may come from anywhere: no size in it is believed before its bytes are there.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile, UserError: if it is not the table of ``shard``.
    """
    content = limited(path, shard.bytes + MiB, remedy="remove it")  # the shard itself has every name, and more
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise ValueError("compressed, so of any size")
        arrays = {name: _array(archive.read(f"{name}.npy")) for name in ("sha256", "places", "names", "ends")}
    if str(arrays["sha256"]) != shard.sha256:
        raise ValueError("of another shard")
    table = ShardTable(arrays["places"], arrays["names"].tobytes(), arrays["ends"])
    _check(table, shard)
    return table


def _array(content: bytes) -> np.ndarray:
    """An array in the format of numpy, of numbers or text only."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("written by another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    count, body = math.prod(shape), content[file.tell() :]
    if dtype.kind not in "iuU" or fortran or count < 0 or count * dtype.itemsize != len(body):
        raise ValueError("not an array of its size")
    return np.frombuffer(body, dtype).reshape(shape)


def _check(table: ShardTable, shard: Shard) -> None:
    """Refuses a table whose files do not lie within its shard, or whose names do not within their text."""
    places, names, ends = table
    if places.shape != (shard.samples, _COLUMNS) or places.dtype != np.int64:
        raise ValueError(f"{len(places)} samples instead of {shard.samples}")
    if ends.shape != (shard.samples,) or ends.dtype != np.int64 or (np.diff(ends, prepend=0) < 0).any():
        raise ValueError("its names are not in order")
    if ends.max(initial=0) != len(names):
        raise ValueError("its names end elsewhere")
    for first, least in ((0, 0), (3, -1)):
        offset, size = places[:, first], places[:, first + 1]
        if (offset < least).any() or (size < 0).any() or (size > shard.bytes - offset.clip(0)).any():
            raise ValueError("a file in it does not lie within it")
    if (places[:, 6:] < 1).any() or (places[:, 6:] > _LONGEST_SIDE).any():
        raise ValueError("an image of no size")


def scan(path: Path) -> ShardTable:
    """Read a shard through for its table, in memory that does not grow but by the table.

    Raises:
        UserError: for a file that is not a shard.
    """
    try:
        return _scanned(path)
    except (tarfile.TarError, LookupError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is not a shard ({why}); write it again with src.shards") from error


def _scanned(path: Path) -> ShardTable:
    places, ends, names = array("q"), array("q"), bytearray()
    entry: dict[str, tuple[int, int, int]] = {}
    with path.open("rb") as file:
        for suffix, offset, size in _members(path):
            content = read_at(file.fileno(), size, offset)
            if suffix != "json":
                entry["label" if suffix == LABEL_SUFFIX else "image"] = offset, size, zlib.crc32(content)
                continue
            about = parsed(content, _About, where=f"{path} at byte {offset}", remedy="write it again with src.shards")
            places.extend((*entry["image"], *entry.get("label", (-1, 0, 0)), about["height"], about["width"]))
            names += about["name"].encode(errors="surrogateescape")
            ends.append(len(names))
            entry.clear()
    whole = np.frombuffer(places, np.int64) if places else np.empty(0, np.int64)
    return ShardTable(whole.reshape(-1, _COLUMNS), bytes(names), np.array(ends, np.int64))


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Suffix, offset and size of each file in a shard."""
    whole = path.stat().st_size
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            if not member.isreg() or member.offset_data + member.size > whole:
                raise ValueError(f"'{member.name[:100]}' is not a file within it")
            yield member.name.split(".", 1)[1], member.offset_data, member.size
            tar.members.clear()  # pyrefly: ignore[missing-attribute]  # tarfile would keep them all
