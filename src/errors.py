"""The one exception that entry points print as a single line instead of a stack trace."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "nearest", "printable"]


class UserError(Exception):
    """A mistake the user can mend: its message names the file or option, the value, and the remedy."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the choice most like ``word``, or an empty string when none is close."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def printable(text: object) -> str:
    """The text in one line that any console takes: control characters and bytes that are no UTF-8 are spelled out.

    File names may hold both: a line break becomes ``\\n``, an escape character ``\\x1b``.
    """
    return "".join(each if each.isprintable() else _spelled(each) for each in str(text))


def _spelled(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
