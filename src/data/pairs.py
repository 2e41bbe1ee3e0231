"""Pairs of files, and a list of them that costs little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, overload

__all__ = ["Pair", "Pairs"]


class Pair(NamedTuple):
    """One image on disk, its label if there is one, and the name it goes by in logs and output files.

    ``confidence`` is an 8-bit grey PNG of the label's size: floor(255 p) of the probability of each labelled pixel.
    """

    image: Path
    label: Path | None
    name: str
    confidence: Path | None = None


class Pairs(Sequence[Pair]):
    """Pairs as one string of bytes: loading processes share it, where each would come to hold a copy of every object.

    The 118,287 pairs of COCO-Stuff take 17 MB, as objects 120 MB in every process.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        lines = ["\0".join(str(part or "") for part in pair).encode(errors="surrogateescape") for pair in pairs]
        self._ends = array("q", [0, *accumulate(map(len, lines))])
        self._bytes = b"".join(lines)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        line = str(self._bytes[self._ends[index] : self._ends[index + 1]], "utf-8", "surrogateescape")
        image, label, name, confidence = line.split("\0")
        return Pair(Path(image), Path(label) if label else None, name, Path(confidence) if confidence else None)
