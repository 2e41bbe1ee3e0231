"""The classes of a user's own data: from options, ``classes.txt`` or ``classes.json`` to a LabelSpace."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ...errors import UserError, nearest
from ..decoding import read_label, read_text
from ..label_space import IGNORE_INDEX, LabelSpace, distinct_colors

__all__ = ["Classes", "build_label_space", "read_classes"]

Classes = Sequence[str] | Mapping[str, Sequence[int]]

# "road 128 64 128", "road,128,64,128", "road:128,64,128::"
_NAME_AND_COLOR = re.compile(r"(?P<name>.+?)[\s,;:]+(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;:]*")
_PEEK = 8  # masks that are opened to suggest a class list


def build_label_space(
    roots: Sequence[Path],
    masks: Iterable[Path],
    classes: Classes | None,
    encoding: Literal["index", "color"],
    file_values: Mapping[int | str, int] | None,
    file_colors: Mapping[str, Sequence] | None,
) -> LabelSpace:
    """The label space of a folder of masks.

    Args:
        roots: folders searched for ``classes.txt`` and ``classes.json`` when ``classes`` is ``None``.
        masks: mask files; the first lends its palette as display colours and helps to word an error.
        classes: names in the order of their ids, or name -> RGB triple (0..255).
        encoding: ``"index"`` or ``"color"``.
        file_values: stored value -> class id or 255; see ``LabelSpace``.
        file_colors: class name or ``ignore`` -> one more RGB triple of it, or several, for ``encoding="color"``.

    Raises:
        UserError: if no class list is given anywhere, roots disagree, or names, values and colours do not fit.
    """
    masks = list(islice(masks, _PEEK))
    classes = read_classes(roots) if classes is None else classes
    if isinstance(classes, str):
        raise UserError(f"data.classes={classes} is one word; give a list: 'data.classes=[{classes},...]'")
    if classes is not None and not isinstance(classes, Sequence | Mapping):
        raise UserError(
            f"data.classes={classes} is not a list; give the names of the classes: 'data.classes=[road,car]'"
        )
    if not classes:
        raise UserError(_how_to_name(roots[0], masks, encoding))
    names = [str(name) for name in classes]
    colors = None
    if isinstance(classes, Mapping):
        colors = [_rgb(color, f"data.classes.{name}") for name, color in classes.items()]
    if encoding == "color":
        return LabelSpace(names, colors or [], file_colors=_color_table(names, colors, file_colors), encoding="color")
    values = None if file_values is None else _whole(file_values)
    colors = colors or _palette_colors(masks, values, len(names)) or distinct_colors(len(names))
    return LabelSpace(names, colors, file_values=values, encoding=encoding)


def _whole(file_values: Mapping[int | str, int]) -> dict[int, int]:
    try:
        return {int(stored): int(train_id) for stored, train_id in file_values.items()}
    except (TypeError, ValueError, AttributeError):
        raise UserError(
            f"data.file_values={file_values} must map numbers to numbers, such as {{0: 0, 255: 1}}"
        ) from None


def read_classes(folders: Sequence[Path]) -> Classes | None:
    """The class list of the first folder that has one; others must not contradict it.

    Raises:
        UserError: if a list cannot be read, or two differ in names or in the colours that both give.
    """
    found: dict[Path, Classes] = {}
    for root in folders:
        for name, parse in (("classes.txt", _parse_text), ("classes.json", _parse_json)):
            if (root / name).is_file():
                found[root / name] = parse(root / name)
                break
    if not found:
        return None
    first, wanted = next(iter(found.items()))
    for path, classes in found.items():
        same_kind = isinstance(classes, Mapping) == isinstance(wanted, Mapping)
        if list(classes) != list(wanted) or (same_kind and classes != wanted):
            raise UserError(f"{first} and {path} differ; make them equal or set data.classes")
    return wanted


def _parse_text(path: Path) -> Classes:
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [_NAME_AND_COLOR.fullmatch(line) for line in lines]
    matches = [match for match in found if match is not None]
    if not matches:
        return lines
    if len(matches) < len(lines):
        bare = lines[found.index(None)]
        raise UserError(
            f"{path}: '{bare}' has no colour but other lines have; write 'name R G B' on every line or on none"
        )
    names = [match["name"] for match in matches]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: class '{twice}' occurs twice; give every class its own name")
    return {match["name"]: _rgb(match.groups()[1:], f"{path}: {match['name']}") for match in matches}


def _parse_json(path: Path) -> Classes:
    try:
        content = json.loads(read_text(path))
        if isinstance(content, list) and all(isinstance(item, Mapping) for item in content):
            content = {item["name"]: item["color"] for item in content}
    except (ValueError, KeyError) as error:
        raise UserError(
            f'{path}: not readable as a class list ({error!r}); write ["name", ...] or {{"name": [R, G, B], ...}}'
        ) from error
    if not isinstance(content, list | dict):
        raise UserError(f"{path}: holds neither a list of names nor an object name -> [R, G, B]; write one of them")
    return content


def _rgb(color: Sequence, where: str) -> tuple[int, int, int]:
    try:
        r, g, b = (int(v) for v in color)
    except (TypeError, ValueError):
        r = g = b = -1
    if min(r, g, b) < 0 or max(r, g, b) > 255:
        raise UserError(f"{where}: '{color}' is not a colour; write three numbers 0..255: [R, G, B]")
    return r, g, b


def _color_table(
    names: list[str], colors: list[tuple[int, int, int]] | None, file_colors: Mapping[str, Sequence] | None
) -> dict[tuple[int, int, int], int]:
    if colors is None:
        raise UserError(
            f"data.encoding=color needs the colour of every class, but data.classes lists names only; write"
            f" 'data.classes={{{names[0]}:[R,G,B],...}}' or 'name R G B' lines in classes.txt"
        )
    table = {(0, 0, 0): IGNORE_INDEX}
    wanted = [(name, color) for name, color in zip(names, colors, strict=True)]
    for name, more in (file_colors or {}).items():
        if name != "ignore" and name not in names:
            raise UserError(
                f"data.file_colors names '{name}', which is not a class; use 'ignore' or one of"
                f" {', '.join(names[:8])}.{nearest(str(name), names)}"
            )
        several = more if more and not isinstance(more[0], int) else [more]
        wanted += [(name, _rgb(color, f"data.file_colors.{name}")) for color in several]
    owner: dict[tuple[int, int, int], str] = {}
    for name, color in wanted:
        if owner.setdefault(color, name) != name:
            raise UserError(f"colour {list(color)} stands for both '{owner[color]}' and '{name}'; give each its own")
        table[color] = IGNORE_INDEX if name == "ignore" and name not in names else names.index(name)
    return table


def _palette_colors(
    masks: Sequence[Path], values: Mapping[int, int] | None, count: int
) -> list[tuple[int, int, int]] | None:
    """Colours of the first mask's palette, unless it has none, is too short, repeats itself or is nearly black."""
    try:
        with Image.open(masks[0]) as file:
            palette = file.getpalette("RGB") if file.mode == "P" else None
    except (OSError, IndexError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    stored = {i: i for i in range(count)} if values is None else {i: v for v, i in reversed(list(values.items()))}
    wanted = [stored.get(i, -1) for i in range(count)]
    if palette is None or any(not 0 <= 3 * value < len(palette) for value in wanted):
        return None
    colors = [(palette[3 * value], palette[3 * value + 1], palette[3 * value + 2]) for value in wanted]
    return colors if len(set(colors)) == count and max(map(max, colors)) >= 64 else None


def _how_to_name(root: Path, masks: Sequence[Path], encoding: str) -> str:
    found: set[int] = set()
    for mask in masks:
        stored = read_label(mask, encoding).astype(np.int32)
        packed = stored if stored.ndim == 2 else (stored[..., 0] << 16) | (stored[..., 1] << 8) | stored[..., 2]
        found |= set(np.unique(packed).tolist())
    some = sorted(found)[:12]
    more = ", ..." if len(found) > len(some) else ""
    if encoding == "color":
        colors = [f"[{v >> 16},{v >> 8 & 255},{v & 255}]" for v in some]
        line = "data.classes={" + ",".join(f"name{i}:{color}" for i, color in enumerate(colors)) + "}"
        return (
            f"{root}: no class list; the first {len(masks)} masks hold the colours {', '.join(colors)}{more}; set"
            f" '{line}' with your names, or write 'name R G B' lines into {root / 'classes.txt'}"
        )
    binary, count = "", len(found - {IGNORE_INDEX})
    if found == {0, 255}:
        count = 2
        binary = (
            "; for one kind of object use experiment=binary, which reads 255 as that object, or else add"
            " 'data.file_values={0:0,255:1}'"
        )
    line = f"data.classes=[{','.join(f'name{i}' for i in range(min(count, len(some))))}]"
    return (
        f"{root}: no class list; the first {len(masks)} masks hold the values {', '.join(map(str, some))}{more}; set"
        f" '{line}' with your names in the order of the values, or write one name per line into"
        f" {root / 'classes.txt'}{binary}"
    )
