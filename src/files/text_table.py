"""Tables as plain text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["markdown_table", "text_table"]


def text_table(rows: Sequence[Sequence[str]], align: str, *, widths: Sequence[int] = ()) -> list[str]:
    """Lines of columns that are two spaces apart and as wide as their widest cell.

    Args:
        rows: cells; a row may end before the others.
        align: ``<`` or ``>`` for each column.
        widths: what columns have at least; the first ones may do.
    """
    least = [*widths, *[0] * (len(align) - len(widths))]
    padded = []
    for column, width in enumerate(least):
        least[column] = max([width, *(len(row[column]) for row in rows if column < len(row))])
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, least, strict=False)]
        padded.append("  ".join(cells).rstrip())
    return padded


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table whose columns are padded, so that it reads well on a console too."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
