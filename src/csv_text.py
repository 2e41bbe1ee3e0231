"""Text in CSV files: names that a spreadsheet would run as formulas are told apart from formulas, and read back."""

from __future__ import annotations

__all__ = ["cell", "text_of"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take for the beginning of one (OWASP)


def cell(text: str) -> str:
    """The cell for a name: one that a spreadsheet would run gets ``'`` in front, which spreadsheets do not show."""
    return f"'{text}" if _is_formula(text) else text


def text_of(cell: str) -> str:
    """The name that ``cell`` was made of."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA)
