"""The config in a checkpoint, read as plain values.

A file may come from anywhere. So of its config only the sections that describe a model are read, or those of a training
where one is resumed (``src.build.resumed_config``). In these a reference such as ``${data.num_classes}`` may point at
the file's own values, and nothing else is resolved: no environment variable, no resolver. ``src.build.allowed`` lists
what may be built from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from ..errors import UserError
from .config_values import as_plain
from .moved_names import current_name

__all__ = ["LEFT", "MODEL", "is_reference", "plain_references", "read_sections"]

MODEL = ("model", "data", "inference", "norms", "channels_last", "score", "converted")
"""The sections that describe a trained model, and the data it was trained on."""

LEFT = "???"
"""OmegaConf's mark for a value that has to be given."""

_MAPPINGS = ("model", "data", "inference")
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_DEEPEST = 40  # levels of nesting
_MOST = 100_000  # values, once all references are followed
_LONGEST = 1_000_000  # characters of one text
_NAME = 200  # characters of a text that references are part of, and of what they refer to

_OFF = {"pretrained": False, "encoder_weights": None}  # weights to start from, where a file holds them all


def read_sections(config: Any, where: object, sections: Sequence[str] = MODEL) -> dict[str, Any]:
    """Copy the sections of a file's config, references kept, so that they can be composed with a command line.

    A file does not choose which server is asked: addresses in ``data``, and what was taken from the environment there,
    are left to the command line (``???``). Weights to start from are switched off, since the file holds all.

    Args:
        config: as the file has it.
        where: file, for the error.
        sections: names of those to read; others are left out.

    Raises:
        UserError: naming the file and the place, for anything but plain containers and values of moderate size, and for
            any ``${...}`` that is not a reference to a value in ``sections``.
    """
    if not isinstance(config, Mapping):
        raise UserError(f"{where}: its config is no mapping; the file is damaged, or of another program")
    reader, changes = _Reader(where), {"model": _without_pretraining, "data": _left_to_the_command_line}
    found = {name: reader.copy(config[name], name, change=changes.get(name)) for name in sections if name in config}
    for name in _MAPPINGS:
        if not isinstance(found.get(name, {}), dict):
            raise UserError(f"{where}: {name} in its config is no mapping; the file is damaged, or of another program")
    if not isinstance(found.get("model", {}).get("scales") or {}, dict):
        raise UserError(f"{where}: model.scales in its config is no mapping; the file is damaged")
    reader.check_references(found)
    return found


def plain_references(config: Any) -> dict[str, Any]:
    """``config`` as plain containers to be saved: references between its values are kept, all else is resolved.

    So what a user took from the environment is a plain value in his checkpoints, which nobody else need resolve.
    """

    def settled(node: Any, path: str) -> Any:
        if isinstance(node, dict):
            return {key: settled(item, f"{path}.{key}" if path else str(key)) for key, item in node.items()}
        if isinstance(node, list):
            return [settled(item, f"{path}[{index}]") for index, item in enumerate(node)]
        if not isinstance(node, str) or "${" not in node or is_reference(node):
            return node
        return as_plain(OmegaConf.select(config, path))

    return settled(as_plain(config, resolve=False), "")


def is_reference(text: str) -> bool:
    """Whether ``text`` is nothing but a reference to another value of its config, such as ``${data.root}``."""
    return _REFERENCE.fullmatch(text) is not None


def _left_to_the_command_line(key: Any, value: Any) -> Any:
    outside = isinstance(value, str) and ("://" in value or ("${" in value and not is_reference(value)))
    return LEFT if outside else value


def _without_pretraining(key: Any, value: Any) -> Any:
    return _OFF.get(key, value)


class _Reader:
    """Copies plain containers of a file, as far as they stay within bounds."""

    def __init__(self, where: object) -> None:
        self._where, self._left = where, _MOST

    def copy(self, node: Any, path: str, *, change: Callable[[Any, Any], Any] | None, key: Any = None) -> Any:
        """``node`` with every value ``change``d; whatever loops or is shared in a file comes out as a tree."""
        self._left -= 1
        if self._left < 0:
            raise self._hostile("is too large", path)
        if path.count("/") > _DEEPEST:
            raise self._hostile("is nested too deeply", path)
        value = change(key, node) if change else node
        if key == "_target_" and isinstance(value, str):
            value = current_name(value)
        if isinstance(value, Mapping):
            if "defaults" in value and not path.startswith("data/classes"):  # Hydra would compose the files it names
                raise self._hostile("names other files to compose (defaults)", path)
            if odd := [name for name in value if not isinstance(name, str | int | float | bool)]:
                raise self._hostile(f"has a key of kind {type(odd[0]).__name__}", path)
            return {name: self.copy(item, f"{path}/{name}", change=change, key=name) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.copy(item, f"{path}/{index}", change=change) for index, item in enumerate(value)]
        if not isinstance(value, bool | int | float | str | None):
            raise self._hostile(f"holds a {type(value).__name__}", path)
        if isinstance(value, str) and len(value) > _LONGEST:
            raise self._hostile(f"holds a text of {len(value)} characters", path)
        return value

    def check_references(self, config: Mapping[str, Any]) -> None:
        """Raise a ``UserError`` for references out of ``config``, in a circle, or that stand for too much together."""
        sizes: dict[str, int] = {}  # reference -> values that it stands for
        being_followed: set[str] = set()

        def size(node: Any, path: str) -> int:  # counted, since a few references can stand for billions of values
            if isinstance(node, dict):
                total = 1 + sum(size(value, f"{path}/{name}") for name, value in node.items())
            elif isinstance(node, list):
                total = 1 + sum(size(value, f"{path}/{index}") for index, value in enumerate(node))
            elif isinstance(node, str) and "${" in node:
                total = followed(node, path)
            else:
                total = 1
            if total > _MOST:
                raise self._hostile("is too large once its references are followed", path)
            return total

        def followed(text: str, path: str) -> int:
            if _is_name(text, config):
                return 1
            match = _REFERENCE.fullmatch(text)
            names = [] if match is None else match[1].split(".")
            target = _select(config, names) if names else None
            if target is None:
                raise UserError(
                    f"{self._where}: its config has {_option(path)}={text[:80]}, which is no reference to one of its"
                    " own values, and nothing else in a file is resolved; use a checkpoint that was trained with plain"
                    " values"
                )
            if text in being_followed or len(being_followed) > _DEEPEST:
                raise self._hostile(f"refers to itself, or from value to value without end ({text[:80]})", path)
            if text not in sizes:
                being_followed.add(text)
                sizes[text] = size(target[0], "/".join(names))
                being_followed.remove(text)
            return sizes[text]

        for name, node in config.items():
            size(node, name)

    def _hostile(self, what: str, path: str) -> UserError:
        place = f" at {_option(path)[:80]}" if path else ""
        return UserError(f"{self._where}: its config {what}{place}; the file is damaged, or made to do harm")


def _is_name(text: str, config: Mapping[str, Any]) -> bool:
    """Whether a short text has references in it, such as ``smp_${model.net.arch}``, each to a short plain value."""
    parts = [_REFERENCE.sub("", text)]
    for match in _REFERENCE.finditer(text):
        found = _select(config, match[1].split("."))
        if found is None or not isinstance(found[0], bool | int | float | str):
            return False
        parts.append(str(found[0]))
    return len(text) < _NAME and all("${" not in part and len(part) < _NAME for part in parts)


def _select(config: Any, names: Sequence[str]) -> tuple[Any] | None:
    """The value at a path of keys, in a tuple; ``None`` where there is none."""
    for name in names:
        if not isinstance(config, Mapping) or name not in config:
            return None
        config = config[name]
    return (config,)


def _option(path: str) -> str:
    return path.replace("/", ".")
