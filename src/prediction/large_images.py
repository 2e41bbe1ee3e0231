"""Images that are too large for memory: read, segmented and written block by block.

The net sees each block with a margin around it, which the result does not take; at the border of the image the window
is moved inwards, so that all windows have one size. Finished blocks are kept in a journal until the files are written
in one go: a run that was killed is resumed, and ends with the same bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, ImageFileDirectory_v2

from ..errors import UserError
from ..files.atomic import whole_file
from ..files.images import read_ahead
from ..runtime.bars import tqdm
from .block_journal import Journal
from .output_record import writing
from .outputs import Label, Pictures, Task
from .raster import RasterReader, RasterWriter, raster_files

__all__ = ["Block", "Blocks", "segment_huge", "stored_size"]

_BIG_TIFF = (b"+\0", b"\0+")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Block(NamedTuple):
    """What the result takes (rows and columns of the image), and what the net sees for it."""

    rows: slice
    columns: slice
    seen_rows: slice
    seen_columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def of_seen(self, seen: np.ndarray) -> np.ndarray:
        """The part of (h,w) that the result takes."""
        top, left = self.rows.start - self.seen_rows.start, self.columns.start - self.seen_columns.start
        return seen[top : top + self.shape[0], left : left + self.shape[1]]


class Blocks:
    """Row by row, the blocks that cover an image.

    Args:
        size: side of a block in pixels, a multiple of 256 (a tile of the files written).
        margin: pixels that the net sees around it.

    Raises:
        UserError: for other numbers.
    """

    def __init__(self, size: int, margin: int) -> None:
        if size < 256 or size % 256 or margin < 0:
            raise UserError(
                f"huge.block={size} must be a multiple of 256 and huge.margin={margin} at least 0; huge.block=2048"
                " huge.margin=256 suit most nets"
            )
        self.size, self.margin = size, margin

    def cover(self, height: int, width: int) -> Cover:
        return Cover(self._spans(height), self._spans(width))

    def _spans(self, length: int) -> list[tuple[slice, slice]]:
        """Along one axis, what the result takes of each block and what the net sees for it."""
        seen = min(self.size + 2 * self.margin, length)
        starts = range(0, length, self.size)
        first = [min(max(0, start - self.margin), length - seen) for start in starts]
        return [
            (slice(start, min(start + self.size, length)), slice(at, at + seen))
            for start, at in zip(starts, first, strict=True)
        ]


class Cover:
    """The blocks of an image, made one by one: a damaged header may tell of millions of them."""

    def __init__(self, rows: list[tuple[slice, slice]], columns: list[tuple[slice, slice]]) -> None:
        self._rows, self._columns = rows, columns

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def __iter__(self) -> Iterator[Block]:
        return self.behind(0)

    def behind(self, done: int) -> Iterator[Block]:
        """Those behind the first ``done``."""
        for index in range(done, len(self)):
            row, column = divmod(index, len(self._columns))
            (rows, seen_rows), (columns, seen_columns) = self._rows[row], self._columns[column]
            yield Block(rows, columns, seen_rows, seen_columns)


def stored_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a TIFF or PNG file from its header; ``None`` for other files."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head.startswith(b"\x89PNG"):
                width, height = struct.unpack(">8x2I", file.read(16))
                return height, width
            if head[:4] not in _TIFF:
                return None
            directory = ImageFileDirectory_v2(head + (file.read(8) if head[2:4] in _BIG_TIFF else b""))
            file.seek(directory.next)
            directory.load(file)
            height, width = directory[IMAGELENGTH], directory[IMAGEWIDTH]
            # A damaged header may hold text there; whoever decodes the file says what is wrong with it.
            return (height, width) if isinstance(height, int) and isinstance(width, int) else None
    except (KeyError, OSError, SyntaxError, ValueError, struct.error):
        return None


def segment_huge(path: Path, files: Mapping[str, Path], task: Task, *, blocks: Blocks, journal: Path) -> np.ndarray:
    """Segments one TIFF or PNG file into tiled, compressed TIFF files that keep its place on the map.

    Args:
        path: 8- or 16-bit grey, palette, RGB or RGBA.
        files: kind of picture -> its file; ``index`` holds train ids, with the classes' colours as its palette.
        task: what to do with each block; attention is not written.
        blocks: the blocks.
        journal: where finished blocks lie until all are.

    Returns:
        (K,) pixels of each class.

    Raises:
        UserError: if the image cannot be read or segmented, or a file cannot be written.
    """
    with raster_files(), RasterReader(path, rows=blocks.size + 2 * blocks.margin) as source:
        todo = blocks.cover(source.height, source.width)
        state = path.stat()
        identity = {
            "image": [str(path.resolve()), state.st_size, state.st_mtime_ns, source.height, source.width],
            "blocks": [blocks.size, blocks.margin],
            "confidence": "confidence" in task.pictures.kinds,
        }
        with writing(journal):
            finished = Journal(journal, identity)
        with finished:
            _segment(todo, source, task.label, finished, path.name)
            pixels = _write(todo, source, finished, files, task.pictures)
    journal.unlink()
    return pixels


def _segment(todo: Cover, source: RasterReader, label: Label, finished: Journal, name: str) -> None:
    """Adds label and confidence of each block that is not finished."""
    pending: deque[Future[None]] = deque()
    progress: Any = tqdm(total=len(todo), initial=len(finished), unit="block", desc=name, leave=False, disable=None)
    with progress, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:

        def read(block: Block) -> np.ndarray:
            return source.read(block.seen_rows, block.seen_columns)

        def append(content: bytes) -> None:
            with writing(finished.path):
                finished.append(content)

        for block, image in read_ahead(reader, read, todo.behind(len(finished)), ahead=1):
            if isinstance(image, UserError):
                raise image
            maps = [block.of_seen(each[0]) for each in label(image[None]) if each is not None]
            pending.append(writer.submit(append, np.stack(maps).tobytes()))
            if len(pending) > 1:
                pending.popleft().result()
            progress.update()
        for job in pending:
            job.result()


def _write(
    todo: Cover, source: RasterReader, finished: Journal, files: Mapping[str, Path], pictures: Pictures
) -> np.ndarray:
    """Writes all files, which appear when all are whole; returns the pixels of each class."""
    pixels = np.zeros(len(pictures.classes.names), np.int64)
    with ExitStack() as stack:
        targets = {kind: stack.enter_context(_replacing(file, source, pictures, kind)) for kind, file in files.items()}
        for index, block in enumerate(tqdm(todo, unit="block", desc="writing", leave=False, disable=None)):
            maps = np.frombuffer(finished[index], np.uint8).reshape(-1, *block.shape)
            label, confidence = maps[0], maps[1] if len(maps) > 1 else None
            image = source.read(block.rows, block.columns) if "overlay" in files else None
            pixels += pictures.areas(label)
            for kind, picture in pictures.make(image, label, confidence).items():
                with writing(files[kind]):
                    targets[kind].write(picture, block.rows, block.columns)
    return pixels


@contextmanager
def _replacing(file: Path, source: RasterReader, pictures: Pictures, kind: str) -> Iterator[RasterWriter]:
    """A raster file to write that takes its place in one move, when it was read back."""
    bands = 3 if kind in ("color", "overlay") else 1
    palette = pictures.classes.palette if kind == "index" else None
    with writing(file), whole_file(file) as partial:
        with closing(RasterWriter(partial, source, bands=bands, palette=palette)) as target:
            yield target
        target.check()
