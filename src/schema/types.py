"""Types of options, for signatures and for the models of ``src.schema.options``: a type, its range, and its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Len, Lt, Predicate

__all__ = [
    "Angle",
    "Between",
    "Channels",
    "Colour",
    "Count",
    "Deviations",
    "Device",
    "Factors",
    "Fraction",
    "Minutes",
    "Name",
    "Names",
    "NotNegative",
    "PathText",
    "Positive",
    "Range",
    "Scales",
    "Seed",
    "Share",
    "Size",
    "Statistics",
    "Target",
    "Text",
    "Weights",
    "Whole",
    "Widths",
    "Words",
]

_LONGEST_NAME = 255  # bytes of a file's name
_LONGEST_SIDE = 32767  # that OpenCV resizes and cuts


class Words(NamedTuple):
    """How messages and docs put a type, in words that follow "must be"."""

    text: str


def _rising(values: Sequence[float]) -> bool:
    return len(values) != 2 or values[0] <= values[1]


def _is_file_name(text: str) -> bool:
    return text not in (".", "..") and not set(text) & set("/\\\0") and len(text.encode(errors="replace")) <= 100


def _is_path(text: str) -> bool:
    return "\0" not in text and all(len(part.encode(errors="replace")) <= _LONGEST_NAME for part in text.split("/"))


Whole = Annotated[int, Ge(0), Le(2**31 - 1)]
"""A whole number of 0 or more."""
Count = Annotated[int, Ge(1), Le(2**31 - 1)]
"""A whole number of 1 or more."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""What seeds all generators."""
NotNegative = Annotated[float, Ge(0)]
"""A finite number of 0 or more."""
Positive = Annotated[float, Gt(0)]
"""A finite number above 0."""
Minutes = Annotated[float, Gt(0), Words("a number of minutes above 0")]
"""A length of time."""
Share = Annotated[float, Ge(0), Le(1)]
"""A number from 0 to 1."""
Fraction = Annotated[float, Gt(0), Le(1)]
"""A number above 0, at most 1."""
Between = Annotated[float, Gt(0), Lt(1)]
"""A probability between 0 and 1, neither of them."""
Channels = Annotated[int, Ge(1), Le(65536)]
"""Channels of a feature map."""
Angle = Annotated[float, Ge(0), Le(0.5)]
"""A share of a turn of the colour wheel, at most half of one."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a net runs."""
Text = Annotated[str, Len(1)]
"""A text that is not empty."""
PathText = Annotated[str, Len(1), Predicate(_is_path), Words("a path (one of digits alone as ./2024)")]
"""A path of a file or folder."""
Name = Annotated[str, Len(1), Predicate(_is_file_name), Words("a name of at most 100 bytes without / and \\")]
"""A name that becomes part of a file's or folder's name."""
Names = Text | Annotated[Sequence[Text], Len(1), Words("a list of names")]
"""One name or several."""

Size = Annotated[
    Sequence[Annotated[int, Ge(1), Le(_LONGEST_SIDE)]],
    Len(2, 2),
    Words(f"[height, width] in pixels, whole numbers from 1 to {_LONGEST_SIDE}"),
]
"""Height and width in pixels."""
Range = Annotated[Sequence[Positive], Len(2, 2), Predicate(_rising), Words("[low, high], numbers above 0, low first")]
"""A range of factors or deviations."""
Scales = Annotated[
    Sequence[Positive],
    Len(1),
    Predicate(_rising),
    Words("a list of numbers above 0; two are a range, [low, high]"),
]
"""A range of two factors, or any other number of them to choose from."""
Factors = Annotated[Sequence[Positive], Len(1), Words("a list of factors above 0")]
"""Factors on an image's size."""
Colour = Annotated[
    Sequence[Annotated[int, Ge(0), Le(255)]], Len(3, 3), Words("an RGB colour, three whole numbers from 0 to 255")
]
"""Red, green and blue."""
Statistics = Annotated[Sequence[Share], Len(3, 3), Words("[R, G, B], numbers from 0 to 1 (of 0..255: over 255)")]
"""Means of the colours."""
Deviations = Annotated[
    Sequence[Fraction], Len(3, 3), Words("[R, G, B], numbers above 0, at most 1 (of 0..255: over 255)")
]
"""Standard deviations of the colours."""
Weights = Annotated[Sequence[NotNegative], Len(1), Words("a list of numbers of 0 or more, one per class")]
"""Factors on the loss of each class."""
Widths = Annotated[Sequence[Channels], Len(1), Words("a list of numbers of channels")]
"""Channels of one layer after the other."""
Target = Annotated[Mapping[str, Any], Predicate(lambda node: isinstance(node.get("_target_"), str)), Words(
    "a mapping with _target_, as a file of its group has it"
)]  # fmt: skip
"""What is built by calling its ``_target_``, whose own signature says what else may be in it."""
