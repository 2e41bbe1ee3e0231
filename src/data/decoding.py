"""Read image, label and text files, or say in one sentence why one cannot be read.

A damaged file, one that is too large, and full memory are distinguished, since only the first is to be restored or
removed. Full memory is a ``MemoryError`` and no ``UserError``: no file is left out because of it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import UserError, out_of_memory

__all__ = ["decode_image", "image_size", "read_image", "read_label", "read_text"]

_QUARTER_TURNS = range(5, 9)  # of the EXIF orientation
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what matters is said once, by name, in a UserError


def read_image(path: Path) -> np.ndarray:
    """(H,W,3) uint8 RGB of an image file, turned upright by its EXIF tag.

    Raises:
        UserError: if the file is missing, empty, cannot be decoded, or has more than 2^30 pixels by its header.
        MemoryError: if memory is full.
    """
    _check_file(path)
    try:
        content = path.read_bytes()
    except MemoryError as error:
        raise MemoryError(f"{path}: there is no room for its bytes") from error
    return decode_image(content, path)


def decode_image(content: bytes, where: object) -> np.ndarray:
    """As ``read_image``, of a file's content; ``where`` is what errors name."""
    if content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content[-65536:]:
        raise UserError(f"{where}: JPEG is truncated (no end marker); restore or remove it")  # OpenCV would fill it up
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        if out_of_memory(error):
            raise MemoryError(f"{where}: there is no room for its pixels") from error
        image = None
    return _why_not(content, where) if image is None else image


def _why_not(content: bytes, where: object) -> np.ndarray:
    """Raises what OpenCV did not say. Some of its decoders give up without a word when memory is full."""
    damaged = "cannot be decoded as an image (corrupt or truncated); restore or remove it"
    with _explained(where, damaged), Image.open(io.BytesIO(content)) as file:
        file.load()
        mode, (width, height) = file.mode, file.size
    raise UserError(
        f"{where}: is whole, but OpenCV cannot read its {width}x{height} pixels of mode {mode}; save it as PNG with 8"
        " bits a channel, or free main memory if it is nearly full"
    )


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is shown, from its header.

    Raises:
        UserError: if the file is missing, empty, no image, or has more pixels than Pillow reads.
    """
    _check_file(path)
    with _explained(path, "is not an image ({}); restore or remove it"), Image.open(path) as file:
        width, height = file.size
        # Pillow decodes the whole of a PNG to tell its EXIF tags, which hardly any has, and turns the size of a TIFF.
        may_turn = _png_has_exif(path) if file.format == "PNG" else file.format != "TIFF"
        turned = may_turn and file.getexif().get(0x0112, 1) in _QUARTER_TURNS
    return (width, height) if turned else (height, width)


def _png_has_exif(path: Path) -> bool:
    """Whether a PNG has a chunk of EXIF tags, be it behind the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            if head[4:] == b"eXIf":
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False


def read_label(path: Path, encoding: str = "index") -> np.ndarray:
    """Stored label values: (H,W) uint8 indices, palette indices kept, or (H,W,3) uint8 RGB for ``"color"``.

    Raises:
        UserError: if the file is missing, broken, of another kind than ``encoding`` says, or holds values past 255.
        MemoryError: if memory is full.
    """
    _check_file(path)
    broken = "cannot be decoded as a label ({}); restore the file or remove the pair"
    with _explained(path, broken), Image.open(path) as file:
        mode = file.mode
        stored = np.asarray(file.convert("RGB") if encoding == "color" and mode != "RGB" else file)
    if encoding == "index" and stored.ndim != 2:
        raise UserError(
            f"{path}: label has {stored.shape[2]} channels (mode {mode}) where one channel of class indices is"
            " expected;"
            " if its colours mean classes use data=folder data.encoding=color with 'data.classes={name:[R,G,B],...}'"
            " (without data.classes the colours found are listed), else save it as grey or palette PNG"
        )
    if stored.dtype.kind == "f":
        raise UserError(
            f"{path}: label holds fractions (mode {mode}), not class indices; save it as an 8-bit grey or palette PNG"
        )
    if stored.dtype == bool:
        return stored.astype(np.uint8)
    if stored.dtype != np.uint8:
        if stored.min() < 0 or stored.max() > 255:
            raise UserError(
                f"{path}: label values {stored.min()}..{stored.max()} do not fit 8 bits (mode {mode}); is this"
                " an instance"
                " or depth map? Point data.root at class indices 0..254"
            )
        stored = stored.astype(np.uint8)
    return stored


def read_text(path: Path, *, any_bytes: bool = False) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        path: of the file.
        any_bytes: keep bytes that are not UTF-8, as Python spells them in names of files.

    Raises:
        UserError: for bytes that are not UTF-8, naming the first.
    """
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode("utf-8", "surrogateescape" if any_bytes else "strict")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: byte 0x{content[error.start]:02x} in line {line} is not UTF-8 (Latin-1 or UTF-16, perhaps); save"
            " the file as UTF-8"
        ) from None


@contextmanager
def _explained(where: object, sentence: str) -> Iterator[None]:
    """Says ``sentence`` of ``where``, with what Pillow said in place of ``{}``."""
    try:
        yield
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow warns at the constant and refuses at twice that
        raise UserError(
            f"{where}: has more than {limit:,} pixels by its header; if that is its size cut it"
            " into tiles (src.predict reads TIFF and PNG by blocks, huge.pixels), else restore or remove it"
        ) from error
    except Exception as error:  # whatever broken bytes lead a parser to
        if out_of_memory(error):
            raise MemoryError(f"{where}: there is no room for its pixels") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: {sentence.format(reason)}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: file not found; restore it or remove it from the list")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: file is empty (0 bytes); restore or remove it")
