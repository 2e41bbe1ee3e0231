"""Any source as shards: written once through in threads, resumable, the same bytes for the same data."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from ...errors import UserError
from ...files.atomic import locked, whole_file
from ...files.images import read_ahead
from ...runtime.bars import tqdm
from ..cache import fingerprint
from ..label_space import LabelSpace
from ..source import Source
from ..workers import reading_threads
from .index import LABEL_SUFFIX, Shard, ShardIndex
from .table import table_of

__all__ = ["write_shards"]

_BLOCK = tarfile.BLOCKSIZE
_NAMED = 20  # files left out of a shard that are named in the index

Files = dict[str, bytes]


def write_shards(source: Source, out: Path, *, split: str, shard_mb: float = 256, progress: bool = False) -> ShardIndex:
    """Write every sample of a source into ``<out>/<split>-000000.tar`` and so on, and ``<out>/<split>.json``.

    Image files are stored as they are, images without a file as PNG; labels as train ids, after all that the source
    makes of them. The key of a sample is its number in the source. Each sample is decoded once: what cannot be read, or
    has labels outside the classes, is left out and told in the index (``Shard.left_out``). A run that was stopped
    resumes behind the last finished shard. Memory holds a few samples for each thread, however many there are.

    Args:
        source: any source.
        out: folder for shards and index, made if need be.
        split: name of the split.
        shard_mb: megabytes (10^6) at which a shard is closed.
        progress: show a progress bar.

    Raises:
        UserError: if ``out`` holds other shards or another process writes there, a file cannot be written, or no sample
            can be read.
    """
    if not split or Path(split).name != split:
        raise UserError(f"split={split} must be a name that files can begin with; name a split of the data set")
    with locked(out, "writing to it"):
        return _write_split(source, out, split, shard_mb, progress)


def _write_split(source: Source, out: Path, split: str, shard_mb: float, progress: bool) -> ShardIndex:
    path, count = out / f"{split}.json", len(source)
    index = _begun(out, source, split)
    if index.complete:
        return index
    with _explained(path):
        index.save(path)  # tells the shards that follow from those of others
    at = index.shards[-1].end if index.shards else 0
    bar = tqdm(total=count, initial=at, unit="image", desc=split, disable=None if progress else True)
    with bar, ThreadPoolExecutor(reading_threads()) as pool:
        samples = read_ahead(pool, partial(_sample, source), range(at, count), 2 * reading_threads())
        while at < count:
            file = out / f"{split}-{len(index.shards):06d}.tar"
            with _explained(file):
                shard = _write_shard(file, samples, shard_mb * 1e6, bar)
                table_of(file, shard)  # reads back what was written
                index = replace(index, shards=[*index.shards, shard], complete=shard.end == count)
                index.save(path)
            at = shard.end
    _remove_from(out, split, len(index.shards))
    if not index.samples:
        raise UserError(f"{path}: no sample of split '{split}' can be read; {index.shards[0].left_out[0]}")
    return index


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); fix that, and the same command resumes from"
            " there, or choose another folder for out="
        ) from error


def _remove_from(out: Path, split: str, number: int) -> None:
    """Remove the shards, from this number on, of an earlier run that made smaller ones: other readers take all."""
    while (path := out / f"{split}-{number:06d}.tar").exists():
        path.unlink()
        path.with_suffix(".npz").unlink(missing_ok=True)
        number += 1


def _begun(out: Path, source: Source, split: str) -> ShardIndex:
    """The index as far as it was written, without shards that have gone since."""
    path = out / f"{split}.json"
    mark = fingerprint(source) or f"{len(source)} samples"
    space = source.label_space
    if not path.exists():
        foreign = next(out.glob(f"{split}-*.tar"), None)
        if foreign is not None:
            raise UserError(
                f"{foreign}: is there without an index {path.name}, so src.shards did not write it; remove it, or"
                " choose another folder for out="
            )
        colors = [list(color) for color in space.colors]
        categories = None if space.categories is None else list(space.categories)
        return ShardIndex(split, mark, list(space.names), colors, categories, [])
    index = ShardIndex.load(path)
    if index.source != mark:
        raise UserError(
            f"{path}: was written from other data, or files or options have changed since; remove it with its"
            f" shards {split}-*.tar, or choose another folder for out="
        )
    files = ((path.with_name(shard.file), shard) for shard in index.shards)
    intact = [file.is_file() and file.stat().st_size == shard.bytes for file, shard in files]
    if all(intact):
        return index
    return replace(index, shards=index.shards[: intact.index(False)], complete=False)


def _sample(source: Source, index: int) -> Files:
    """Suffix -> content of a sample."""
    image, label = source.read(index)
    if source.pairs:
        file = source.pairs[index].image
        files = {file.suffix.lower().lstrip(".").replace("jpeg", "jpg"): file.read_bytes()}
    else:
        files = {"png": _png(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))}
    if label is not None:
        files[LABEL_SUFFIX] = _png(_checked(source, index, label, image.shape[:2]))
    about = {"name": source.name(index), "height": image.shape[0], "width": image.shape[1]}
    return files | {"json": json.dumps(about).encode()}


def _checked(source: Source, index: int, label: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if label.shape != shape or label.dtype != np.uint8:
        raise UserError(
            f"{source.name(index)}: label is {label.shape} {label.dtype} but its image {shape}; fix the source"
        )
    space = source.label_space
    return LabelSpace(space.names, space.colors).encode(label, source.name(index))


def _png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def _write_shard(path: Path, samples: Iterator[tuple[int, Files | UserError]], limit: float, bar: tqdm) -> Shard:
    """Fill a shard under a temporary name, then rename it."""
    with whole_file(path) as partial, partial.open("wb") as file:
        shard = _fill(file, path.name, samples, limit, bar)
        file.flush()
        os.fsync(file.fileno())
    return shard


def _fill(
    file: IO[bytes], name: str, samples: Iterator[tuple[int, Files | UserError]], limit: float, bar: tqdm
) -> Shard:
    digest, left_out, broken, count, end = hashlib.sha256(), [], 0, 0, 0

    def write(content: bytes) -> None:
        file.write(content)
        digest.update(content)

    for index, found in samples:
        end = index + 1
        bar.update()
        if isinstance(found, UserError):
            broken += 1
            if broken <= _NAMED:
                left_out.append(str(found))
            continue
        count += 1
        for suffix, content in found.items():
            member = tarfile.TarInfo(f"{index:08d}.{suffix}")  # no time and no owner: equal data give equal shards
            member.size = len(content)
            write(member.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % _BLOCK))
        if file.tell() >= limit:
            break
    write(bytes(2 * _BLOCK))
    write(bytes(-file.tell() % tarfile.RECORDSIZE))
    if broken > _NAMED:
        left_out.append(f"{broken - _NAMED} more")
    return Shard(name, count, file.tell(), digest.hexdigest(), end, left_out)
