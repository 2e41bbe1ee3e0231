"""What is in a set of shards: the index of a split.

A shard is a tar archive in the format of WebDataset: ``<key>.<image suffix>``, ``<key>.label.png`` (train ids, 8-bit
grey; left out where there is no label), ``<key>.json`` (name, height, width), one sample after the other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from ...errors import UserError, nearest
from ...files.atomic import write_bytes
from ...files.json_schema import Count
from ...files.untrusted import MiB, limited, parsed
from ..label_space import LabelSpace

__all__ = ["LABEL_SUFFIX", "LARGEST_INDEX", "Shard", "ShardIndex"]

LABEL_SUFFIX = "label.png"
_FORMAT = "semseg shards 1"
LARGEST_INDEX = 256 * MiB  # some hundred thousand shards
_LEAST_BYTES = 2048  # of a sample in a shard: two files at least, each with a header, in blocks of 512
_MOST_SAMPLES = 10**8


def _plain_name(name: str) -> str:
    if not name.isprintable():
        raise ValueError("should be a plain file name")
    return name


class _Shard(TypedDict):
    """A shard in an index that may come from anywhere: its file is a plain name, and its sizes go together."""

    file: Annotated[str, Field(pattern=r"^[^./\\][^/\\]{0,180}\.tar$"), AfterValidator(_plain_name)]
    samples: Annotated[int, Field(ge=0, le=_MOST_SAMPLES)]
    bytes: Annotated[int, Field(ge=_LEAST_BYTES, le=2**50)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    end: Count
    left_out: list[str]


class _Index(TypedDict):
    """The content of ``<split>.json``."""

    format: Literal["semseg shards 1"]
    samples: Count
    split: str
    source: str
    names: list[str]
    colors: list[Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]]
    categories: list[str] | None
    shards: list[Annotated[_Shard, AfterValidator(lambda shard: _fitting(shard))]]
    complete: bool


class Shard(NamedTuple):
    """One shard: its file beside the index, and what it must hold.

    ``end`` is the sample of the source that follows its last; ``left_out`` says why samples before that are missing.
    """

    file: str
    samples: int
    bytes: int
    sha256: str
    end: int
    left_out: list[str]


@dataclass(frozen=True)
class ShardIndex:
    """The file ``<split>.json``: label space, and the shards finished; ``source`` marks what they are of."""

    split: str
    source: str
    names: list[str]
    colors: list[list[int]]
    categories: list[str] | None
    shards: list[Shard]
    complete: bool = False

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def label_space(self) -> LabelSpace:
        return LabelSpace(self.names, self.colors, categories=self.categories)

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        shards = [shard._asdict() for shard in self.shards]
        content = {"format": _FORMAT, "samples": self.samples, **asdict(self), "shards": shards}
        write_bytes(path, json.dumps(content).encode(), shared=True)

    @classmethod
    def load(cls, path: Path) -> ShardIndex:
        """Read it.

        Raises:
            UserError: where there is none, naming the splits that there are, or it is not an index.
        """
        remedy = "write the shards again with src.shards"
        if not path.exists():
            splits = sorted(other.stem for other in path.parent.glob("*.json"))
            there = f"there is {', '.join(splits)}" if splits else "there are no shards"
            raise UserError(
                f"{path}: index of split '{path.stem}' cannot be read ({there});{nearest(path.stem, splits)} correct"
                f" data.root or data.splits, or write it: python -m src.shards data=... split={path.stem}"
                f" out={path.parent}"
            )
        where = f"{path}: is not an index of shards that this version wrote"
        content = parsed(limited(path, LARGEST_INDEX, remedy=remedy), _Index, where=where, remedy=remedy)
        return cls(
            content["split"],
            content["source"],
            content["names"],
            content["colors"],
            content["categories"],
            [Shard(**shard) for shard in content["shards"]],
            content["complete"],
        )


def _fitting(shard: _Shard) -> _Shard:
    if shard["samples"] * _LEAST_BYTES > shard["bytes"]:
        raise ValueError("should have bytes for so many samples")
    return shard
