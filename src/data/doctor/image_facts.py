"""What the image files of a data set are, and what is lost or goes wrong when they are read as 8-bit RGB."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ...errors import out_of_memory

__all__ = ["Files", "ImageFacts", "ImageTally", "image_facts"]

_ORIENTATION, _BITS, _EXTRA_SAMPLES = 0x0112, 258, 338  # tags of EXIF and TIFF
_ALPHA_APART = 2  # of _EXTRA_SAMPLES: transparency, by which the TIFF library multiplies the colours
_TURNS = {
    2: "mirrored",
    3: "180 degrees",
    4: "mirrored",
    5: "mirrored",
    6: "90 degrees",
    7: "mirrored",
    8: "90 degrees",
}
_DARK_DEEP = 64  # brightest level, of 255, of all deep images: below, they use at most 14 of their 16 bits
_BLACK = 16  # brightest level of all images below which there is nothing to see


class Files:
    """A count of files, and of pixels in them, that keeps the first few names."""

    def __init__(self) -> None:
        self.count, self.pixels = 0, 0
        self.first: list[str] = []

    def add(self, where: str, pixels: int = 0) -> None:
        """Count one file."""
        self.count += 1
        self.pixels += pixels
        self.first = [*self.first, where][:3]

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")


class ImageFacts(NamedTuple):
    """What the header of an image file says.

    Attributes:
        kind: format, mode and, where it is not 8, bits: ``PNG RGB``, ``TIFF I;16 16 bit``.
        bits: of a channel.
        channels: stored ones; the indices of a palette are one.
        orientation: of its EXIF tag, 1 to 8; 1 is upright.
        darkened: whether decoding multiplies its colours by a fourth channel that is not white.
    """

    kind: str
    bits: int
    channels: int
    orientation: int
    darkened: bool


def image_facts(path: Path) -> ImageFacts | None:
    """Read the header of an image; ``None`` where Pillow knows no such file, or its tags are broken."""
    try:
        with Image.open(path) as file:
            tags = file.tag_v2 if isinstance(file, TiffImageFile) else {}
            bits, channels = _bits(path, file), max(len(file.getbands()), len(_several(tags.get(_BITS, ()))))
            apart = channels > 3 and _ALPHA_APART in _several(tags.get(_EXTRA_SAMPLES, ()))
            darkened = apart and int(np.asarray(file)[..., 3].min()) < 255
            orientation = file.getexif().get(_ORIENTATION, 1)
            kind = f"{file.format} {file.mode}" + ("" if bits == 8 else f" {bits} bit")
    except Exception as error:  # whatever broken bytes lead a parser to
        if out_of_memory(error):
            raise
        return None
    return ImageFacts(kind, bits, channels, orientation, darkened)


class ImageTally:
    """Counts over image files.

    Attributes:
        kinds: kind of file -> how many.
        lowest, highest: levels, of 255, over all images as they are read.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.lowest, self.highest = 255, 0
        self._count, self._means = 0, 0.0
        self._deep, self._deep_highest = Files(), 0
        self._dropped, self._darkened = Files(), Files()
        self._turned, self._turns = Files(), Counter()

    def add(self, where: str, levels: tuple[int, int, float], facts: ImageFacts | None) -> None:
        """Count one image.

        Args:
            where: its path.
            levels: lowest, highest and mean level as it is read, 0..255.
            facts: of its header.
        """
        self._count += 1
        self.lowest, self.highest = min(self.lowest, levels[0]), max(self.highest, levels[1])
        self._means += levels[2]
        if facts is None:
            return
        self.kinds[facts.kind] += 1
        if facts.bits > 8:
            self._deep.add(where)
            self._deep_highest = max(self._deep_highest, levels[1])
        if facts.darkened:
            self._darkened.add(where)
        elif facts.channels in (2, 4) and "CMYK" not in facts.kind:
            self._dropped.add(where)
        if facts.orientation in _TURNS:
            self._turned.add(where)
            self._turns[_TURNS[facts.orientation]] += 1

    def summary(self) -> str:
        """The range of levels in words."""
        if not self._count:
            return "unknown"
        return f"{self.lowest}..{self.highest} of 255, on average {self._means / self._count:.0f}"

    def problems(self) -> list[str]:
        """What training would go wrong on: a sentence each, with files and remedy."""
        found = []
        if self._darkened.count:
            found.append(
                f"{self._darkened}: holds a fourth channel marked as transparency, by which its colours are multiplied"
                " when it is read; save red, green and blue alone (infrared or depth in a file of its own is not read)"
            )
        if self._deep.count and self._deep_highest < _DARK_DEEP:
            found.append(
                f"{self._deep}: of 16 bits the upper 8 are read, and the brightest pixel of all these images is then"
                f" {self._deep_highest} of 255, nearly black, as the values take up a small part of 0..65535 (12-bit"
                " cameras); save them as 8 bit, all scaled by one factor such as 255 / 4095"
            )
        elif self._count and self.highest < _BLACK:
            found.append(
                f"the brightest pixel of all {self._count} images is {self.highest} of 255, so there is nothing to see;"
                " export the images again at full brightness"
            )
        return found

    def notes(self) -> list[str]:
        """What is lost on reading, or may be meant otherwise."""
        found = []
        if self._deep.count and self._deep_highest >= _DARK_DEEP:
            found.append(f"{self._deep}: holds more than 8 bits a channel, of which the upper 8 are read")
        if self._dropped.count:
            found.append(f"{self._dropped}: its last channel is left out; only colour or grey is read, no transparency")
        if self._turned.count:
            turns = ", ".join(f"{name}: {count}" for name, count in sorted(self._turns.items()))
            found.append(
                f"{self._turned}: carries an EXIF rotation ({turns}), so it is read upright, as viewers show it, and"
                " masks are read as stored; look at one pair, and if its mask was drawn on the unturned pixels remove"
                " the tag (exiftool -Orientation= FILES)"
            )
        return found


def _bits(path: Path, file: Image.Image) -> int:
    """Bits of a channel; Pillow's modes do not tell for colour."""
    if file.format == "PNG":
        with path.open("rb") as content:
            return max(8, content.read(25)[24])  # fewer are a palette or grey of few levels, read in full
    if isinstance(file, TiffImageFile):
        return max(8, *_several(file.tag_v2.get(_BITS, 8)))
    return 16 if file.mode.startswith("I") else 8


def _several(value: Any) -> tuple[int, ...]:
    """The values of a tag that may hold one or more."""
    return value if isinstance(value, tuple) else (value,)
