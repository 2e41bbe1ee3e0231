"""The one exception that entry points print as a single line instead of a stack trace."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

__all__ = ["UserError", "nearest", "noted"]


class UserError(Exception):
    """A mistake the user can mend: its message names the file or option, the value, and the remedy."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the choice most like ``word``, or an empty string when none is close."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


@contextlib.contextmanager
def noted(what: object) -> Iterator[None]:
    """Print an error in the block as one note and go on: for what shows a result, which it must never cost.

    Args:
        what: the block writes.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"note: {what}: not written ({reason}); the run goes on", flush=True)
