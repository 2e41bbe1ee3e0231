"""Types, values and faults in plain English."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Len, Lt

from .types import Words

__all__ = ["choices", "words", "written"]

_LARGE = 10**8  # limits of this size only keep numbers from overflowing, and are not worth a word
_PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
_LONGEST = 120  # characters of a value in a message


def words(annotation: Any) -> str:
    """What ``annotation`` lets pass, in words that follow "must be"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *notes = arguments
        own = [note.text for note in notes if isinstance(note, Words)]
        return own[-1] if own else words(inner) + _limits(inner, notes)
    if origin is Literal:
        return _one_of([*dict.fromkeys(map(written, arguments))])  # 32 and "32" are typed alike
    if origin in (Union, types.UnionType):
        return _united(arguments)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping" if arguments[1] is Any else f"a mapping of names to {_plural(words(arguments[1]))}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list of {_plural(words(arguments[0]))}"
    return _PLAIN.get(annotation, "a value that its docs name")


def _limits(inner: Any, notes: Sequence[Any]) -> str:
    notes = [each for note in notes for each in (note if isinstance(note, Interval) else [note])]
    ge, gt, le, lt = (
        next((getattr(note, name) for note in notes if isinstance(note, kind)), None)
        for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt"))
    )
    le = None if le is not None and le >= _LARGE else le
    if ge is not None and le is not None:
        return f" from {ge} to {le}"
    if gt is not None and (le is not None or lt is not None):
        return f" above {gt}, {f'at most {le}' if lt is None else f'below {lt}'}"
    if ge is not None:
        return f" of {ge} or more" if lt is None else f" from {ge} to below {lt}"
    if gt is not None:
        return f" above {gt}"
    length = next((note for note in notes if isinstance(note, Len) and note.min_length), None)
    if length is not None and inner is not str:
        return ", at least one" if length.max_length is None else f", {length.min_length} of them"
    return ""


def _united(arguments: Sequence[Any]) -> str:
    rest = [each for each in arguments if each is not type(None)]
    parts: dict[str, None] = {}  # in order, each once
    for each in rest:
        parts |= dict.fromkeys(map(written, get_args(each)) if get_origin(each) is Literal else [words(each)])
    null = ", or null" if len(rest) < len(arguments) else ""
    return _one_of([*parts]) + null


def _one_of(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} or {last}" if first else last


def _plural(text: str) -> str:
    for one in ("list", "whole number", "number", "text"):
        text = text.replace(f"a {one}", f"{one}s")
    return text


def choices(annotation: Any) -> list[str]:
    """The words that ``annotation`` lists, from which a message suggests the nearest."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return list(map(str, arguments))
    return [each for part in arguments for each in choices(part)]


def written(value: Any) -> str:
    """``value`` as one types it on the command line, shortened."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {written(each)}" for key, each in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(written, value)) + "]"
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
