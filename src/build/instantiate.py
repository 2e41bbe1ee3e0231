"""The one place in which what a config names is imported and called.

A config says what to build by ``_target_``. It may name only what its place allows (``Kind``), and that is decided by
the object that the name leads to, not by the name: ``src.models.layers.torch.hub.load`` begins like a net and is none.
"""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from ..errors import UserError
from ..files.project import running_name, written_name
from .config_values import as_plain
from .moved_names import current_name

__all__ = ["Kind", "instantiate", "targets"]

_OPTIONS = ("_target_", "_partial_", "_convert_")  # of a node itself; everything is built with plain containers


@dataclass(frozen=True)
class Kind:
    """What may be built in one place of a config.

    Args:
        name: of these objects in messages, in the plural.
        packages: where they are defined; that a module merely imports them is not enough.
        bases: classes that they are, or derive from.
        functions: further ones by their full names, as their own modules define them.
    """

    name: str
    packages: tuple[str, ...]
    bases: tuple[type, ...] = ()
    functions: frozenset[str] = frozenset()

    def find(self, target: Any) -> type | FunctionType:
        """Import what ``target`` names.

        Raises:
            UserError: for anything that this kind does not allow, and for names that lead nowhere.
        """
        target = current_name(target) if isinstance(target, str) else target
        if not isinstance(target, str) or not target.startswith(tuple(f"{package}." for package in self.packages)):
            raise UserError(self._refusal(target))
        try:
            found = _imported(running_name(target))
        except ImportError as error:
            raise UserError(
                f"{target}: {_reason(error)}; correct its _target_, or install what is missing (requirements.txt)"
            ) from error
        if not self._allows(found):
            raise UserError(self._refusal(target))
        return found

    def _allows(self, found: Any) -> bool:
        if not isinstance(found, type | FunctionType) or not found.__module__:
            return False
        place = written_name(f"{found.__module__}.{found.__qualname__}")
        if isinstance(found, FunctionType):
            return place in self.functions
        return place.startswith(tuple(f"{package}." for package in self.packages)) and issubclass(found, self.bases)

    def _refusal(self, target: Any) -> str:
        packages = " or ".join(self.packages)
        return f"{target} is not allowed here; name one of the {self.name} that {packages} defines"


def instantiate(node: Any, kind: Kind, **arguments: Any) -> Any:
    """The object that ``node`` describes, nested ones included, with plain containers as arguments.

    Args:
        node: a mapping with ``_target_`` and arguments; with ``_partial_: true`` the arguments are kept for a later
            call. References are resolved first, so that what is checked is what is built.
        kind: what may be named, by ``node`` and by all in it.
        arguments: further ones of the outermost object.

    Raises:
        UserError: for a ``_target_`` that is not allowed, or arguments that it does not take.
    """
    return _built(as_plain(node, throw_on_missing=True), kind, arguments)


def _built(node: Any, kind: Kind, arguments: Mapping[str, Any] | None = None) -> Any:
    if isinstance(node, Mapping):
        options = {key: _built(value, kind) for key, value in node.items() if key not in _OPTIONS}
        return options if "_target_" not in node else _called(node, kind, options | dict(arguments or {}))
    return [_built(item, kind) for item in node] if isinstance(node, list | tuple) else node


def _called(node: Mapping[Any, Any], kind: Kind, options: dict[Any, Any]) -> Any:
    target = node["_target_"]
    found = kind.find(target)
    if odd := [key for key in options if not isinstance(key, str) or key.startswith("_")]:
        raise UserError(f"{target}: {odd[0]} is no argument of it; leave it out")
    if node.get("_partial_"):
        return functools.partial(found, **options)
    try:
        with warnings.catch_warnings():
            # Albumentations drops arguments that it does not know, such as the former name of a mask's fill value.
            warnings.filterwarnings("error", message="Argument.* not valid for transform")
            return found(**options)
    except (TypeError, ValueError, RuntimeError, UserWarning) as error:
        raise UserError(f"{target}: {_reason(error)}; correct its values") from error


def _imported(target: str) -> Any:
    """Follow a dotted name through modules and then through their attributes.

    Raises:
        ImportError: where it leads nowhere, or a module on the way needs a package that is missing.
    """
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ImportError(f"'{target}' is no name in Python")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # of another package that the module imports
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                raise ImportError(f"{module} has no {'.'.join(parts[length:])}")
            found = getattr(found, part)
        return found
    raise ImportError(f"there is no package {parts[0]}")


def _reason(error: BaseException) -> str:
    """What an error says, in one line; of values that pydantic refuses for albumentations without its addresses."""
    text = " ".join(str(error).split())
    return re.sub(r"\d+ validation errors? for InitSchema | For further information visit \S+(?<![;,])", "", text)


def targets(node: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Every target in ``node`` with its options, references as they are."""
    plain = as_plain(node, resolve=False)
    found: list[tuple[str, Mapping[str, Any]]] = []
    if isinstance(plain, Mapping):
        if "_target_" in plain:
            found.append((plain["_target_"], plain))
        plain = list(plain.values())
    if isinstance(plain, list):
        for value in plain:
            found += targets(value)
    return found
