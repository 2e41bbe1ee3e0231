"""Several sources as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.data.dataset import Source
from src.errors import UserError

__all__ = ["ConcatSource", "label_of"]


class ConcatSource:
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
        """The label of ``read`` alone."""
        return label_of(*self._locate(index))


def label_of(source: Source, index: int) -> np.ndarray | None:
    """The label that ``source.read`` gives, without its image where the source has ``read_label``."""
    return source.read_label(index) if hasattr(source, "read_label") else source.read(index)[1]


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''} ({len(names)})"
