"""CSV files with names in them: no name is run as a formula by a spreadsheet, and every name comes back as it was."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

__all__ = ["cell", "csv_text", "text_of"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take for the beginning of one (OWASP)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Lines of CSV; names among the cells go through ``cell`` before."""
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:  # Python before 3.13 leaves a carriage return unquoted, and reads it as the end of the row
        (quoted if any("\r" in str(each) for each in row) else plain).writerow(row)
    return text.getvalue()


def cell(text: str) -> str:
    """The cell for a name: one that a spreadsheet would run gets ``'`` in front, which makes it text there."""
    return f"'{text}" if _is_formula(text) else text


def text_of(cell: str) -> str:
    """The name that ``cell`` was made of."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA)
