"""Shards as a source like any other: the tables of the shards make every sample one read at a known place.

Order, class-uniform sampling, resuming and the parts of ranks and loading processes are those of plain files.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ...errors import UserError
from ...files.portable import open_to_read, read_at
from ...runtime.bars import tqdm
from ...schema.types import Positive
from ..decoding import decode_image
from ..source import Source
from ..workers import no_bar, reading_threads
from .download_cache import ShardCache
from .index import Shard, ShardIndex
from .table import ShardTable, table_of

__all__ = ["ShardSource", "shards"]

_OPEN = 128  # shards that a process keeps open


class ShardSource(Source):
    """Samples of shards, in the order of the source they were written from.

    Every read is checked against the checksum from the time of writing.

    Args:
        index: of the split.
        folder: that holds its shards.
        cache: downloads shards there when they are first read; ``None``: they are all there.

    Raises:
        UserError: for a shard that is missing, truncated, or not the one of the index; on reading for one that has
            changed meanwhile. Each names the shard.
    """

    def __init__(self, index: ShardIndex, folder: Path, *, cache: ShardCache | None = None) -> None:
        self.label_space = index.label_space
        self.cache = cache
        self._shards = index.shards
        if cache:
            self._paths, self._stamps = [cache.local(shard) for shard in index.shards], [0] * len(index.shards)
        else:
            self._paths = [folder / shard.file for shard in index.shards]
            self._stamps = [_stamp(*pair) for pair in zip(self._paths, index.shards, strict=True)]
        self._places, self._names, self._name_ends = _joined(self._tables())
        self.shard_ends = np.cumsum([shard.samples for shard in index.shards])

    def _tables(self) -> list[ShardTable]:
        known = all(path.with_suffix(".npz").exists() for path in self._paths)
        quiet = True if known else no_bar()
        with ThreadPoolExecutor(reading_threads()) as pool:
            tables = pool.map(self._table, self._paths, self._shards)
            return list(tqdm(tables, "tables of shards", len(self._shards), unit="shard", disable=quiet))

    def _table(self, path: Path, shard: Shard) -> ShardTable:
        if self.cache is None:
            return table_of(path, shard)
        self.cache.fetch_table(shard)
        try:
            return table_of(path, shard)
        except FileNotFoundError:  # no table is there, and it is made of the shard
            return self.cache.opened(shard, lambda copy: table_of(copy, shard))

    def identity(self) -> dict[str, object]:
        """What tells these samples from others: the shards' checksums, and state and place of local files."""
        return {"sha256": [shard.sha256 for shard in self._shards], "files": [] if self.cache else self._paths}

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        start = int(self._name_ends[index - 1]) if index else 0
        return str(self._names[start : int(self._name_ends[index])], "utf-8", "surrogateescape")

    def size(self, index: int) -> tuple[int, int]:
        height, width = self._places[index, 6:].tolist()
        return height, width

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        image = decode_image(self._content(index, 0), self._where(index))
        label = self.read_label(index)
        if label is not None and label.shape != image.shape[:2]:
            raise UserError(
                f"{self._where(index)}: label is {label.shape} but its image {image.shape[:2]}; write it again"
            )
        return image, label

    def read_label(self, index: int) -> np.ndarray | None:
        """The label of ``read`` alone."""
        if self._places[index, 3] < 0:
            return None
        label = cv2.imdecode(np.frombuffer(self._content(index, 3), np.uint8), cv2.IMREAD_UNCHANGED)
        if label is None or label.ndim != 2:
            raise UserError(
                f"{self._where(index)}: label is not an 8-bit grey PNG; write the shards again with src.shards"
            )
        return self.label_space.encode(label, self._where(index))

    def _content(self, index: int, column: int) -> bytes:
        offset, size, checksum = self._places[index, column : column + 3].tolist()
        shard = int(np.searchsorted(self.shard_ends, index, side="right"))
        try:
            opened = self._opened(shard)
            content = read_at(opened.number, size, offset)
        except OSError as error:
            raise UserError(
                f"{self._paths[shard]}: shard cannot be read any more ({error.strerror or error}); restore it and"
                " resume with resume=last"
            ) from error
        if zlib.crc32(content) != checksum:
            raise UserError(
                f"{self._where(index)}: shard has changed since it was written (other checksum); copy it again, or"
                " remove it and repeat the command that wrote it"
            )
        return content

    def _opened(self, shard: int) -> _Opened:
        if self.cache is None:
            return _opened(self._paths[shard], self._stamps[shard])
        return self.cache.opened(self._shards[shard], _Opened)

    def _where(self, index: int) -> str:
        return f"{self._paths[int(np.searchsorted(self.shard_ends, index, side='right'))]} ({self.name(index)})"


def shards(
    *, root: str | Path, split: str, cache: str | Path | None = None, cache_gb: Positive | None = None
) -> ShardSource:
    """The source of a split that ``src.shards`` wrote.

    Args:
        root: its folder, or the address of one (``https://...``, ``s3://...``, whatever fsspec opens).
        split: name of the split.
        cache: folder into which shards of an address are downloaded; ``None``: one in the cache folder of this project.
        cache_gb: gigabytes (10^9) of shards that it may hold; the longest unused are removed. ``None``: all.

    Raises:
        UserError: for a split that is not there or not finished, and as ``ShardSource``.
    """
    if split != Path(split).name:
        raise UserError(f"data.splits: split={split} must be a name, without a folder; correct data.splits")
    remote = ShardCache(str(root), folder=cache, limit_gb=cache_gb) if "://" in str(root) else None
    folder = remote.fetch_index(split) if remote else Path(root).expanduser()
    path = folder / f"{split}.json"
    index = ShardIndex.load(path)
    if not index.complete:
        raise UserError(
            f"{path}: writing stopped after {len(index.shards)} shards; repeat the command that wrote it, which resumes"
            " from there"
        )
    if not index.shards:
        raise UserError(f"{path}: lists no shard; write the shards again with src.shards")
    return ShardSource(index, folder, cache=remote)


class _Opened:
    """A file descriptor that is closed with its last user; ``read_at`` may be shared by threads and forks."""

    number = -1

    def __init__(self, path: Path) -> None:
        self.number = open_to_read(path)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


@lru_cache(maxsize=_OPEN)
def _opened(path: Path, stamp: int) -> _Opened:
    return _Opened(path)


def _stamp(path: Path, shard: Shard) -> int:
    """Time of change of a shard that has the size it must have."""
    try:
        state = path.stat()
    except OSError as error:
        raise UserError(
            f"{path}: shard is missing or cannot be read ({error.strerror}); copy it there again, or repeat the command"
            " that wrote it"
        ) from error
    if state.st_size != shard.bytes:
        raise UserError(
            f"{path}: shard has {state.st_size} bytes but must have {shard.bytes}, so it is truncated or another; copy"
            " it again, or remove it and repeat the command that wrote it"
        )
    return state.st_mtime_ns


def _joined(tables: list[ShardTable]) -> ShardTable:
    starts = np.cumsum([0, *(len(table.names) for table in tables)])
    return ShardTable(
        np.concatenate([table.places for table in tables]),
        b"".join(table.names for table in tables),
        np.concatenate([table.ends + start for table, start in zip(tables, starts[:-1], strict=True)]),
    )
