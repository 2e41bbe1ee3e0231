"""Text that people wrote beside their images: class lists and lists of files."""

from __future__ import annotations

from pathlib import Path

from src.errors import UserError

__all__ = ["read_text"]


def read_text(path: Path, *, any_bytes: bool = False) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        path: of the file.
        any_bytes: keep bytes that are no UTF-8, as Python spells them in names of files.

    Raises:
        UserError: for bytes that are no UTF-8, naming the first.
    """
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode("utf-8", "surrogateescape" if any_bytes else "strict")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: byte 0x{content[error.start]:02x} in line {line} is no UTF-8 (Latin-1 or UTF-16, perhaps); save"
            " the file as UTF-8"
        ) from None
