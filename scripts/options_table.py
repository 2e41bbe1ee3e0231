"""Writes docs/options.md, every option with what it may be: ``scripts/options_table.py``.

Types, ranges and choices are those that every command line is checked by (``src.schema``); defaults and remarks are
those of the files in ``conf``.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml

from src.cli.option_help import remarks
from src.schema import commands, options
from src.schema.faults import Options, annotation_of, spelled_hints
from src.schema.words import words, written

ROOT = Path(__file__).resolve().parent.parent
HEADER = """# Options

Written by `python scripts/options_table.py`; `tests/test_options.py` keeps it true. Every command line is checked by
what stands here before anything is built or written. Defaults are those of the file named; `-` has none there.
`python -m src.<command> --cfg job` prints the config that would run.

"""
SHARED = {  # model of a group of options -> the file that holds its defaults
    options.Data: "data/folder",
    options.Model: "model/bisenetv2",
    options.Optimizer: "optimizer/adamw",
    options.Trainer: "trainer/default",
}


def page() -> str:
    """The whole page."""
    parts = [HEADER, "## Commands\n"]
    for name, model in commands.COMMANDS.items():
        parts.append(f"### src.{name}\n\n`conf/{name}.yaml`\n\n{_of_model(model, name)}")
    parts.append("## Groups of options\n")
    for model, file in SHARED.items():
        name = model.__name__.lower()
        parts.append(f"### {name}\n\n`conf/{file}.yaml`\n\n{_of_model(model, file)}")
    parts.append("## What is built\n\nOptions beside a `_target_`, by what it names.\n")
    for target, files in sorted(_targets().items()):
        parts.append(f"### {target}\n\n{', '.join(f'`conf/{file}`' for file in files)}\n\n{_of_call(target, files)}")
    return "\n".join(parts)


def _of_model(model: type[Options], file: str) -> str:
    defaults, notes = _file(file)
    rows = []
    for name, field in model.model_fields.items():
        kind = next((each for each in typing.get_args(field.annotation) if _is_group(each)), field.annotation)
        if kind in SHARED:
            rows.append((name, f"see [{name}](#{name})", "", notes.get(name, "")))
        elif _is_group(kind):
            inner = {f"{name}.{each}": other for each, other in kind.model_fields.items()}
            rows += [_row(each, words(annotation_of(other)), defaults, notes) for each, other in inner.items()]
        else:
            rows.append(_row(name, words(annotation_of(field)), defaults, notes))
    return _table(rows)


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Options)


def _of_call(target: str, files: list[str]) -> str:
    call = pkgutil.resolve_name(target)
    notes: dict[str, str] = {}
    for file in files:
        notes = {path.split(".")[-1]: note for path, note in _file(file.removesuffix(".yaml"))[1].items()} | notes
    rows = []
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = {} if parameter.default is parameter.empty else {name: parameter.default}
        rows.append(_row(name, words(spelled_hints(call)[name]), default, notes))
    return _table(rows)


def _row(name: str, what: str, defaults: dict[str, Any], notes: dict[str, str]) -> tuple[str, str, str, str]:
    default = f"`{written(_plain(defaults[name]))}`" if name in defaults else "-"
    what = what.replace(" (one of digits alone as ./2024)", "").replace(", as a file of its group has it", "")
    return name, what, default, notes.get(name, "")


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else value


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    lines = ["| option | may be | default | remark |", "|---|---|---|---|"]
    for name, what, default, note in rows:
        cells = (f"`{name}`", _text(what), default, _text(note))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _text(words: str) -> str:
    """Plain words as Markdown, which would take <name> for a tag and _name_ for emphasis."""
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", words.replace("<", "&lt;")) if "](" not in words else words


def _file(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Defaults and remarks of a file in ``conf`` by option, nested ones with dots."""
    text = (ROOT / "conf" / f"{name}.yaml").read_text()
    return dict(_leaves(yaml.safe_load(text) or {})), remarks(name)


def _leaves(node: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _targets() -> dict[str, list[str]]:
    """What files in ``conf`` name as ``_target_``, of this project."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        for target in re.findall(r"_target_: *(src\.[\w.]+)", path.read_text()):
            files = found.setdefault(target, [])
            if (name := str(path.relative_to(ROOT / "conf"))) not in files:
                files.append(name)
    return found


if __name__ == "__main__":
    (ROOT / "docs" / "options.md").write_text(page())
