"""Where each class occurs in a data set: one centre of mass per tile of an image and class that the tile shows.

Tao, Sapra, Catanzaro: Hierarchical Multi-Scale Attention for Semantic Segmentation, 2020 (arXiv 2005.10821), released
code. Deviation: tiles cover the borders of an image, and images smaller than a tile, which the code leaves out.
"""

from __future__ import annotations

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from ...files.atomic import write_bytes
from ...runtime.bars import tqdm
from ..cache import cache_dir, fingerprint
from ..source import Source
from ..workers import is_first_process, reading_threads

__all__ = ["ClassIndex", "centroids", "class_index"]

_KIND = "class index 1"  # another number where the same labels would give other points
_PART = 16  # labels that one thread takes at a time


class ClassIndex(NamedTuple):
    """Points of each class.

    ``points`` is (N,3) int32: index of the image, row and column, ordered by class and then by image. ``ends`` is
    (K,) int64: where the points of each class end.
    """

    points: np.ndarray
    ends: np.ndarray

    def of(self, class_id: int) -> np.ndarray:
        """(n,3) view of one class's points."""
        return self.points[self.ends[class_id - 1] if class_id else 0 : self.ends[class_id]]


def class_index(source: Source, tile: int) -> ClassIndex:
    """The index of a source, from its cache if the source is as it was when that was written.

    Labels are decoded in threads, without their images. Where the source cannot be told from a changed one
    (``src.data.cache.fingerprint``) nothing is kept.

    Args:
        source: any source; samples without a label have no points.
        tile: side of the square tiles in pixels.

    Raises:
        UserError: for a label that cannot be read.
    """
    mark = fingerprint(source, _KIND, tile)
    if mark is None:
        return _build(source, tile)
    path = cache_dir() / "classes" / f"{mark}.npz"
    index = _read(path)
    if index is None:
        index = _build(source, tile)
        _write(path, index)
    return index


def centroids(label: np.ndarray, *, tile: int, num_classes: int) -> np.ndarray:
    """(n,3) int32 row, column and class: the centre of mass of each class in each tile, to the nearest pixel.

    The centre of a shape that is not convex may lie outside it.

    Args:
        label: (H,W) uint8 train ids; those of ``num_classes`` and above are left out.
        tile: side of the tiles; the last of a row or column may be smaller.
        num_classes: K.
    """
    width, flat = label.shape[1], label.reshape(-1)
    # Runs of one class within a row and tile stand for their pixels: there are many times fewer of them.
    starts = np.empty(label.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=starts[1:])
    starts.reshape(label.shape)[:, ::tile] = True
    begin = np.flatnonzero(starts)
    length = np.diff(begin, append=flat.size).astype(float)
    row, column = np.divmod(begin.astype(np.int32), np.int32(width))
    key = flat[begin].astype(np.intp)
    if tile < max(label.shape):
        key += 256 * (row // tile * -(-width // tile) + column // tile)
    pixels = np.bincount(key, length)
    keys = np.flatnonzero(pixels)
    keys = keys[keys % 256 < num_classes]
    middle = column + 0.5 * (length - 1)
    sums = [np.bincount(key, length * position)[keys] for position in (row, middle)]
    return np.stack([*np.rint(sums / pixels[keys]), keys % 256], axis=1).astype(np.int32)


def _build(source: Source, tile: int) -> ClassIndex:
    count, found = len(source), []
    parts = [range(start, min(start + _PART, count)) for start in range(0, count, _PART)]
    progress = tqdm(total=count, desc="finding classes", unit="label", disable=not is_first_process())
    with progress, ThreadPoolExecutor(reading_threads()) as pool:
        for part, points in zip(parts, pool.map(partial(_points, source, tile), parts), strict=True):
            found.append(points)
            progress.update(len(part))
    points = np.concatenate(found)
    order = np.argsort(points[:, 3], kind="stable")
    ends = np.cumsum(np.bincount(points[:, 3], minlength=source.label_space.num_classes))
    return ClassIndex(points[order, :3], ends)


def _points(source: Source, tile: int, part: range) -> np.ndarray:
    """(n,4) int32 image, row, column and class of some images."""
    images, found = [], [np.empty((0, 3), np.int32)]
    for index in part:
        label = source.read_label(index)
        if label is not None:
            found.append(centroids(label, tile=tile, num_classes=source.label_space.num_classes))
            images += [index] * len(found[-1])
    return np.column_stack([np.array(images, np.int32), np.concatenate(found)])


def _read(path: Path) -> ClassIndex | None:
    """The kept index, or ``None`` if there is none or the file is damaged, which its checksums show."""
    try:
        with np.load(path) as kept:
            return ClassIndex(kept["points"], kept["ends"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, index: ClassIndex) -> None:
    content = io.BytesIO()
    np.savez(content, **index._asdict())
    try:
        write_bytes(path, content.getvalue(), shared=True)
    except OSError as error:
        rank_zero_warn(
            f"{path}: cannot be written ({error.strerror or error}), so labels are looked through for their classes at"
            " every start; set SEMSEG_CACHE to a folder that you may write to"
        )
