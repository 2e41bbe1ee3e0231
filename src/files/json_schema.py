"""What files of runs and sweeps may hold: kinds of entries, and the check of plain containers against them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Required, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ..errors import UserError, printable

__all__ = ["DEEPEST", "Count", "Finite", "Line", "Number", "Open", "SavedBundle", "SavedScores", "Share", "checked"]

DEEPEST = 64  # levels of nesting; a resolved config has about 8

T = TypeVar("T")
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Number = Annotated[int, Field(strict=True)] | Finite
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Line = Annotated[str, AfterValidator(lambda text: printable(" ".join(text.split())))]  # safe to print


@with_config(ConfigDict(extra="allow", strict=True))
class Open(TypedDict):
    """What may have further entries: files of later versions do."""


_Bounds = Annotated[list[Share | None], Field(min_length=2, max_length=2)]
_Color = Annotated[list[Count], Field(min_length=3, max_length=3)]


class _Interval(Open, total=False):
    miou: _Bounds | None
    iou: dict[str, _Bounds] | None


class _Protocol(Open, total=False):
    data: str | None
    splits: list[str] | None
    images: Count | None
    device: str | None


class SavedScores(Open, total=False):
    """``scores_<split>.json`` and ``validation.json``, as ``callbacks.scores.write_scores`` describes them."""

    miou: Share | None
    pixel_accuracy: Share | None
    mean_accuracy: Share | None
    frequency_weighted_iou: Share | None
    category_miou: Share | None
    boundary_miou: Share | None
    calibration_error: Share | None
    iou: dict[str, Share | None]
    accuracy: dict[str, Share | None]
    boundary_iou: dict[str, Share | None]
    truth_share: dict[str, Share | None]
    interval_over_images: _Interval | None
    classes: list[str]
    colors: list[_Color]
    confusion_matrix: Annotated[list[list[Count]], AfterValidator(lambda rows: _square(rows))]
    protocol: _Protocol | None


class _Normalisation(TypedDict):
    mean: Annotated[list[Number], Field(min_length=3, max_length=3)]
    std: Annotated[list[Number], Field(min_length=3, max_length=3)]
    channel_order: str


class _Classes(TypedDict):
    names: list[str]
    colors: list[_Color]


class _Start(Open, total=False):
    weights: str
    licence: str


class _Checkpoint(Open):
    name: str
    sha256: str


class SavedBundle(Open, total=False):
    """``config.json`` of a bundle (``checkpoints.bundle``)."""

    model: Required[dict[str, Any]]
    data: Required[dict[str, Any]]
    inference: Required[dict[str, Any]]
    normalisation: Required[_Normalisation]
    label_space: Required[_Classes]
    scores: dict[str, SavedScores]
    start: _Start
    checkpoint: _Checkpoint


def checked(tree: Any, kind: type[T], *, where: str, remedy: str) -> T:
    """``tree`` as a ``kind``, which is named with its first entry that is not one.

    Raises:
        UserError: for that entry, or nesting of more than 64 levels.
    """
    if _too_deep(tree):
        raise UserError(f"{where}: is broken (nested too deeply); {remedy}")
    try:
        return _adapter(kind).validate_python(tree, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        entry = ".".join(_keys(tree, first)) or "what it holds"
        what = first["msg"].replace("Input should", "should", 1).replace("Field required", "is missing")
        what = printable(what.removeprefix("Value error, "))[:200]
        raise UserError(f"{where}: {entry} {what[:1].lower()}{what[1:]}; {remedy}") from None


def _too_deep(tree: Any) -> bool:
    level = [tree]
    for _ in range(DEEPEST + 1):
        level = [each for node in level if isinstance(node, dict | list) for each in _children(node)]
        if not level:
            return False
    return True


def _children(node: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """Those that may have children of their own."""
    values = node.values() if isinstance(node, Mapping) else node
    return [value for value in values if isinstance(value, dict | list)]


def _keys(tree: Any, error: Mapping[str, Any]) -> Iterator[str]:
    """The keys that lead to an error, without the names that pydantic adds for unions."""
    for place, part in enumerate(error["loc"], 1):
        known = part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int)
        if known or (error["type"] == "missing" and place == len(error["loc"])):
            yield printable(str(part))[:60]
        if known:
            tree = tree[part]


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _square(rows: list[list[int]]) -> list[list[int]]:
    if any(len(row) != len(rows) for row in rows):
        raise ValueError("should have as many columns as rows")
    return rows
