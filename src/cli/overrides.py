"""What is typed on the command line, put into the grammar that Hydra reads, and what it says before Hydra reads it.

Hydra's grammar knows letters of English, digits and a few signs; anything else has to be in quotes of its own, inside
those of the shell. Here they are added, so that a folder may have any name:

- a value that Hydra cannot read is taken as text, and one that begins with ``[`` or ``{`` as a list or mapping of YAML;
- the value of an option that names a file or folder is text, whatever it looks like: ``1e5`` and ``true`` are names;
- ``null``, values in quotes, and ``${...}``, which refers to another option, stay what they are for Hydra.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

__all__ = ["as_typed", "in_quotes", "name_of", "quoted", "readable", "sets_any", "value_of", "without"]

_LISTS = {"compare", "onnx", "root"}  # options that take a path or a list of paths
_PATHS = _LISTS | {"ckpt", "ckpt_path", "init_from", "resume", "report", "run", "source", "out", "dir", "cache"}
_SWEEPS = {"-m", "--multirun"}
_PARSER = OverridesParser.create()


def readable(overrides: list[str]) -> list[str]:
    """Return the same overrides and flags, in words that Hydra reads; what cannot be read stays as it is."""
    paths = not _SWEEPS & set(overrides)  # with them a comma may be meant to part values
    return [item if item.startswith("-") else _readable(item, paths) for item in overrides]


def quoted(name: str, value: object) -> str:
    """Return the override that sets ``name`` to the text of ``value``, to the letter, ``${`` included."""
    text = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", str(value))
    return f"{name}={in_quotes(text)}"


def in_quotes(text: str) -> str:
    """Return ``text`` as a quoted value of Hydra's grammar; ``${...}`` in it still refers to another option."""
    return QuotedString(text, Quote.single).with_quotes()


def name_of(override: str) -> str:
    """Return the option that an override sets, adds or deletes: ``++a.b=1`` is of ``a.b``; of a flag an empty text."""
    return "" if override.startswith("-") else override.partition("=")[0].lstrip("+~")


def as_typed(override: str) -> str:
    """Return the same override without the quotes that ``readable`` would add again: as a person would type it."""
    plain = f"{override.partition('=')[0]}={value_of(name_of(override), [override])}"
    return plain if readable([plain]) == [override] else override


def value_of(name: str, overrides: list[str]) -> str | None:
    """Return the text that the last override of ``name`` gives to it; ``None`` for ``null``, or if there is none."""
    for item in reversed(readable(overrides)):
        found = _parsed(item)
        if name_of(item) == name and found is not None and not found.is_delete():
            value = found.value()
            return value if isinstance(value, str) or value is None else item.partition("=")[2]
    return None


def sets_any(names: tuple[str, ...], overrides: list[str]) -> bool:
    """Return whether an override is of an option that begins with one of ``names``."""
    return any(name_of(item).startswith(names) for item in overrides)


def without(name: str, overrides: list[str]) -> list[str]:
    """Return the overrides that are not of ``name``."""
    return [item for item in overrides if name_of(item) != name]


def _readable(item: str, paths: bool) -> str:
    head, _, value = item.partition("=")
    if not value or _parsed(f"{head}=") is None:
        return item
    last = name_of(item).rpartition(".")[2]
    is_path = last in _PATHS or last.endswith("_dir")
    if paths and is_path and (text := _path(value, may_be_list=last in _LISTS)) is not None:
        return f"{head}={text}"
    if _parsed(item) is not None:
        return item
    text = _from_yaml(value) if value[0] in "[{" else in_quotes(value)
    return item if text is None or _parsed(f"{head}={text}") is None else f"{head}={text}"


def _path(value: str, *, may_be_list: bool) -> str | None:
    """A path, or a list of paths, in quotes; ``None`` for what is no plain path, or is in quotes already."""
    found = _parsed(f"x={value}")
    in_own_quotes = found is not None and value[0] in "'\""
    if value.lower() == "null" or in_own_quotes or (found is not None and isinstance(found.value(), dict)):
        return None
    if len(value) > 1 and value[0] == value[-1] == '"':  # Lightning puts a run's folder so, whatever is in its name
        return in_quotes(value[1:-1])
    if not (may_be_list and value.startswith("[") and value.endswith("]")):
        return in_quotes(value)
    try:
        items = yaml.load(value, yaml.BaseLoader)  # which leaves all as text, 1e5 and null too
    except yaml.YAMLError:
        return None
    return _written(items) if isinstance(items, list) and all(isinstance(each, str) for each in items) else None


def _from_yaml(value: str) -> str | None:
    try:
        return _written(OmegaConf.to_container(OmegaConf.create(value), resolve=False))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        return None


def _written(value: Any) -> str:
    """Plain containers, as Hydra's grammar has them."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_written(each)}' for key, each in value.items())}}}"
    if value is None:
        return "null"
    return in_quotes(value) if isinstance(value, str) else str(value)


def _parsed(override: str) -> Override | None:
    try:
        return _PARSER.parse_rule(override, "override")
    except HydraException:
        return None
