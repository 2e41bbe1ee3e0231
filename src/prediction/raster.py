"""Raster files by windows, with rasterio (https://rasterio.readthedocs.io), which is an optional dependency."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import UserError
from ..files.project import pip_install

__all__ = ["RasterReader", "RasterWriter", "raster_files"]

TILE = 256
_AT_ONCE = 1 << 22  # pixels that are decoded in one call; all their channels fit into the cache
_MOST = 1 << 40  # pixels; the list of their blocks alone would not fit otherwise
_MOST_KEPT = 1 << 35  # bytes of whole rows
_CACHE = 1 << 26  # bytes that GDAL may hold


def _rasterio() -> Any:
    try:
        import rasterio
    except ImportError as error:
        raise UserError(
            "images above huge.pixels are read by windows with rasterio, which is not installed;"
            f" {pip_install('huge', 'rasterio')}, or raise huge.pixels to read them whole"
        ) from error
    return rasterio


@contextmanager
def raster_files() -> Iterator[None]:
    """Bounds GDAL's cache, and silences its warnings of images that have no place on a map."""
    rasterio = _rasterio()
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


class RasterReader:
    """Windows of an image as (h,w,3) uint8 RGB.

    A file that is stored by whole rows (every PNG) is decoded once, from top to bottom, as long as no window begins
    above the one before; its last ``rows`` rows are kept for that. Of a tiled file nothing is kept.

    Args:
        path: the file.
        rows: height of the highest window.

    Raises:
        UserError: if the file cannot be read, or is no image of 1 to 4 channels of 8 or 16 bits.
    """

    def __init__(self, path: Path, *, rows: int) -> None:
        self._path, self._errors = path, _rasterio().errors
        with self._explained():
            self._file = _rasterio().open(path)
        kinds = set(self._file.dtypes)
        if self._file.count > 4 or not kinds <= {"uint8", "uint16"}:
            raise UserError(
                f"{path}: has {self._file.count} channels of {', '.join(sorted(kinds))}; nets here take RGB or grey of"
                " 8 or 16 bits: convert it, for example with gdal_translate -ot Byte -b 1 -b 2 -b 3"
            )
        self.height, self.width = self._file.height, self._file.width
        points, system = self._file.gcps
        self.place = (
            {"crs": system, "gcps": points} if points else {"crs": self._file.crs, "transform": self._file.transform}
        )
        self._bands = [1, 2, 3] if self._file.count > 2 else [1]
        self._colors = self._palette()
        self._tiled = self._file.block_shapes[0][1] < self.width
        kept = 0 if self._tiled else 3 * min(rows, self.height) * self.width
        if self.height * self.width > _MOST or kept > _MOST_KEPT:
            raise UserError(
                f"{path}: is {self.width}x{self.height} by its header, too large to be segmented; if that is its size"
                " store it in tiles (gdal_translate -co TILED=YES) or cut it, else restore or remove it"
            )
        self._kept = None if self._tiled else np.empty((min(rows, self.height), self.width, 3), np.uint8)
        self._first = self._end = 0  # rows that are kept

    def _palette(self) -> np.ndarray | None:
        """(256,3) uint8, or ``None`` for a file without."""
        if len(self._bands) > 1 or self._file.colorinterp[0].name != "palette":
            return None
        table = self._file.colormap(1)
        return np.array([table.get(value, (0, 0, 0))[:3] for value in range(256)], np.uint8)

    def __enter__(self) -> RasterReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """(h,w,3) uint8 RGB of its own memory."""
        kept = self._kept
        if kept is None:
            return self._decoded(rows, columns)
        # GDAL decodes rows of a PNG from the top for every window that is asked for out of order. So rows are asked for
        # in order, and those that windows still need are kept; a window above them begins anew.
        if not self._first <= rows.start <= self._end:
            self._first = self._end = rows.start
        while self._end < rows.stop:
            self._forward(rows, kept)
        return kept[rows.start - self._first : rows.stop - self._first, columns].copy()

    def _forward(self, wanted: slice, kept: np.ndarray) -> None:
        """Decodes some rows more; of those before ``wanted`` none is kept."""
        if drop := min(wanted.start, self._end) - self._first:
            kept[: self._end - self._first - drop] = kept[drop : self._end - self._first]
            self._first += drop
        place = self._end - self._first
        count = min(max(1, _AT_ONCE // self.width), self.height - self._end, len(kept) - place)
        kept[place : place + count] = self._decoded(slice(self._end, self._end + count), slice(0, self.width))
        self._end += count

    def _decoded(self, rows: slice, columns: slice) -> np.ndarray:
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with self._explained():
            bands = self._file.read(self._bands, window=window)
        if bands.dtype == np.uint16:
            bands = (bands >> 8).astype(np.uint8)
        if self._colors is not None:
            return self._colors[bands[0]]
        return np.ascontiguousarray(np.broadcast_to(bands, (3, *bands.shape[1:])).transpose(1, 2, 0))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._errors.RasterioError as error:
            raise UserError(f"{self._path}: cannot be decoded as an image ({error}); restore or remove it") from error


class RasterWriter:
    """A tiled, compressed TIFF file that lies where ``source`` lies on the map.

    Args:
        path: of the file.
        source: whose size and place it gets.
        bands: 1, or 3 for RGB.
        palette: (256,3) uint8 colours of a file with one band.
    """

    def __init__(self, path: Path, source: RasterReader, *, bands: int, palette: np.ndarray | None) -> None:
        self._path = path
        self._written: dict[Any, int] = {}  # window -> checksum
        self._file = _rasterio().open(
            path,
            "w",
            driver="GTiff",
            width=source.width,
            height=source.height,
            count=bands,
            dtype="uint8",
            photometric="RGB" if bands == 3 else None,
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            compress="deflate",
            BIGTIFF="IF_SAFER",
            **source.place,
        )
        if palette is not None:
            self._file.write_colormap(1, {value: tuple(map(int, color)) for value, color in enumerate(palette)})

    def write(self, picture: np.ndarray, rows: slice, columns: slice) -> None:
        """(h,w) or (h,w,3) uint8."""
        bands = np.ascontiguousarray(picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1))
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        self._file.write(bands, window=window)
        self._written[window] = zlib.crc32(bands.data)

    def close(self) -> None:
        """Writes what GDAL still holds."""
        self._file.close()

    def check(self) -> None:
        """Reads the closed file again, since GDAL is silent about what it cannot write at the end.

        Raises:
            OSError: if the file does not hold what was written.
        """
        with _rasterio().open(self._path) as file:
            if any(zlib.crc32(file.read(window=window)) != value for window, value in self._written.items()):
                raise OSError("the file is incomplete; is the disk full?")
