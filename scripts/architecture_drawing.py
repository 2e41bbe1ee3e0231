"""Draws docs/architecture.svg, the packages of ``src`` in layers: ``scripts/architecture_drawing.py``.

Order and names are those of ``LAYERS`` in ``tests/test_imports.py``, and each package says what it is in the first
sentence of its docstring.
"""

from __future__ import annotations

import ast
import html
import re
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.test_imports import LAUNCHERS, LAYERS

ROOT = Path(__file__).resolve().parent.parent
WIDTH, GAP, LINE = 600, 10, 16  # pixels
COLUMNS, LETTERS = 2, 96  # boxes beside each other; letters that a line of the whole width holds
STYLE = """text { font: 12px sans-serif; fill: #37474f } .name { font: bold 13px monospace; fill: #00695c }
.box { fill: #f1f8f7; stroke: #80cbc4 } .layer { fill: #fff } .arrow { fill: none; stroke: #80a9a4 }"""


def drawing() -> str:
    """The picture as SVG."""
    rows = [_row([{package} for package in sorted(layer - LAUNCHERS)]) for layer in LAYERS]
    rows[0] = [*_row([LAUNCHERS]), *rows[0]]
    parts, y = [], GAP
    for row in rows:
        y = _boxes(row, parts, y)
        if row is not rows[-1]:
            parts.append(f'<path class="arrow" d="M{WIDTH / 2:g} {y - GAP + 2} v8 m-4 -4 l4 4 l4 -4"/>')
            y += 6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">\n'
        f"<title>Packages of src; each imports only from lines below its own</title>\n<style>{STYLE}</style>\n"
        f'<rect class="layer" width="{WIDTH}" height="{y}" rx="6"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _row(packages: list[set[str]]) -> list[tuple[str, str]]:
    """Name and sentence of each box."""
    return [
        ("launchers", f"python -m src.NAME: {', '.join(sorted(each))}")
        if len(each) > 1
        else (next(iter(each)), _about(next(iter(each))))
        for each in packages
    ]


def _about(package: str) -> str:
    path = ROOT / "src" / package / "__init__.py"
    text = ast.get_docstring(ast.parse((path if path.is_file() else path.parent.with_suffix(".py")).read_text()))
    return re.split(r"\n\n|(?<=\.)\s", text or "")[0].replace("\n", " ").replace("``", "").rstrip(".")


def _boxes(row: list[tuple[str, str]], parts: list[str], y: int) -> int:
    """Draws a row from ``y`` on, ``COLUMNS`` boxes beside each other; returns where the next begins."""
    for start in range(0, len(row), COLUMNS):
        boxes = row[start : start + COLUMNS]
        width = (WIDTH - GAP * (len(boxes) + 1)) // len(boxes)
        lines = [textwrap.wrap(about, LETTERS // len(boxes) - 2) for _, about in boxes]
        height = LINE * (1 + max(map(len, lines))) + 12
        for column, ((name, _), about) in enumerate(zip(boxes, lines, strict=True)):
            x = GAP + column * (width + GAP)
            parts.append(f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="4"/>')
            for number, line in enumerate([name, *about]):
                kind = ' class="name"' if number == 0 else ""
                place = f'x="{x + 8}" y="{y + LINE * (number + 1) + 1}"'
                parts.append(f"<text{kind} {place}>{html.escape(line, quote=False)}</text>")
        y += height + GAP
    return y


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.svg").write_text(drawing())
