"""Where samples come from: the ``Source`` base class, pairs of image and label files, and several sources as one."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from ..errors import UserError
from .decoding import image_size, read_image, read_label
from .label_space import IGNORE_INDEX, LabelSpace

__all__ = ["ConcatSource", "FileSource", "Pair", "Pairs", "Source"]


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


class Source:
    """Raw samples in a fixed order; the base class of every data set.

    A data set defines ``label_space``, the length, ``name``, ``size`` and ``read``; the other members have defaults
    that fit samples without files.

    Attributes:
        label_space: the classes.
        pairs: the files of each sample; empty where samples are not image files.
        unmatched: label files that no image claims; the audit reports them.
        left_out: images that are not read because they have no label; the audit reports them, too.
    """

    label_space: LabelSpace
    pairs: Sequence[Pair] = ()
    unmatched: Sequence[Path] = ()
    left_out: Sequence[str] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, index: int) -> str:
        """The name of a sample in logs and output files, at no cost of decoding."""
        raise NotImplementedError

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, at no cost of decoding."""
        raise NotImplementedError

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H,W,3) uint8 RGB, and label (H,W) uint8 train ids, 255 = ignore; ``None`` where there is no label."""
        raise NotImplementedError

    def read_label(self, index: int) -> np.ndarray | None:
        """The label that ``read`` gives; sources that can read it without the image override this."""
        return self.read(index)[1]

    @property
    def parts(self) -> Sequence[Source]:
        """The sources in a row that this one consists of, itself where it is only one."""
        return [self]

    def identity(self) -> Mapping[str, object]:
        """What tells these samples from others, beside files and label space (``src.data.cache.fingerprint``)."""
        apart = ("label_space", "pairs", "unmatched")
        return {name: value for name, value in vars(self).items() if name not in apart}


class FileSource(Source):
    """A source over image and label files.

    Args:
        pairs: what to read, in order.
        label_space: turns stored labels into train ids.
        unmatched: label files that no image claims; the audit reports them.
        left_out: images that are not read, as they have no label; the audit reports them, too.
        min_confidence: where a pair has a map of confidence, labels below this probability are ignored; ``None``: none.

    Raises:
        UserError: for a confidence outside (0, 1]; on reading a missing or broken file, a label or map of another size,
            or an unknown label value.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_space: LabelSpace,
        *,
        unmatched: Sequence[Path] = (),
        left_out: Sequence[Path] = (),
        min_confidence: float | None = None,
    ) -> None:
        if min_confidence is not None and not 0 < min_confidence <= 1:
            raise UserError(f"data.min_confidence={min_confidence} must lie in (0, 1]; null keeps every label")
        self.pairs: Sequence[Pair] = Pairs(pairs)
        self.label_space = label_space
        self.unmatched = tuple(unmatched)
        self.left_out = tuple(map(str, left_out))
        self.min_confidence = min_confidence

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def size(self, index: int) -> tuple[int, int]:
        return image_size(self.pairs[index].image)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        image, stored = self.read_stored(index)
        return image, None if stored is None else self._encoded(index, stored)

    def read_label(self, index: int) -> np.ndarray | None:
        """The label of ``read`` alone, at the cost of its own file; its size is not compared with the image's."""
        path = self.pairs[index].label
        return None if path is None else self._encoded(index, read_label(path, self.label_space.encoding))

    def _encoded(self, index: int, stored: np.ndarray) -> np.ndarray:
        pair = self.pairs[index]
        label = self.label_space.encode(stored, pair.label)
        if pair.confidence is not None and self.min_confidence is not None:
            label[self._confidence(pair.confidence, label.shape) < 255 * self.min_confidence] = IGNORE_INDEX
        return label

    def _confidence(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """(H,W) uint8."""
        confidence = read_label(path)
        if confidence.shape != shape:
            raise UserError(
                f"{path}: map of confidence is {confidence.shape[1]}x{confidence.shape[0]} but its label is"
                f" {shape[1]}x{shape[0]} (width x height); write both again with src.autolabel"
            )
        return confidence

    def read_stored(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """As ``read``, but the label as the file holds it: (H,W) uint8 values, or (H,W,3) uint8 RGB colours."""
        pair = self.pairs[index]
        image = read_image(pair.image)
        if pair.label is None:
            return image, None
        stored = read_label(pair.label, self.label_space.encoding)
        if stored.shape[:2] != image.shape[:2]:
            raise UserError(
                f"{pair.label}: label is {stored.shape[1]}x{stored.shape[0]} but its image {pair.image} is"
                f" {image.shape[1]}x{image.shape[0]} (width x height); export the mask at the image's size"
                " (a swap of both is an EXIF rotation stored in one file only)"
            )
        return image, stored


class ConcatSource(Source):
    """Sources of one label space in a row, for splits such as train + val.

    Raises:
        UserError: if their classes differ.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.label_space = self.sources[0].label_space
        self._ends = np.cumsum([len(source) for source in self.sources])
        for source in self.sources:
            if source.label_space.names != self.label_space.names:
                raise UserError(
                    f"{self.sources[0].name(0)} has the classes {_few(self.label_space.names)} and {source.name(0)} has"
                    f" {_few(source.label_space.names)}; splits that are read together must have the same classes"
                )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, index: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[part], index - (int(self._ends[part - 1]) if part else 0)

    def name(self, index: int) -> str:
        source, local = self._locate(index)
        return source.name(local)

    def size(self, index: int) -> tuple[int, int]:
        source, local = self._locate(index)
        return source.size(local)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        source, local = self._locate(index)
        return source.read(local)

    def read_label(self, index: int) -> np.ndarray | None:
        source, local = self._locate(index)
        return source.read_label(local)

    @property
    def parts(self) -> Sequence[Source]:
        return self.sources


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''} ({len(names)})"
