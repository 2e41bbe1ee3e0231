"""``--help NAME``: what an option may be, by the schema that command lines are checked by, with default and remark."""

from __future__ import annotations

import re
import shutil
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import hydra
import yaml
from omegaconf import OmegaConf

from ..build.config_values import as_plain
from ..errors import UserError, nearest
from ..files.project import CONFIG_DIR
from ..schema.commands import model_of
from ..schema.faults import Options, annotation_of, spelled_hints
from ..schema.words import words, written

__all__ = ["described", "remarks"]

_LINE = re.compile(r"(?P<indent> *)(?P<name>[\w.]+):(?P<value>[^#]*)(#\s*(?P<note>.*))?$")
_PACKAGE = re.compile(r"# @package (\S+)")


class _Option(NamedTuple):
    """An option by its full name, its value, and what it may be; nothing where the schema leaves it open."""

    name: str
    value: Any
    kind: Any


def described(command: str, names: Sequence[str], config_name: str, overrides: Sequence[str]) -> str:
    """The options of a command that are called ``names``, or lie below them, one a line.

    Args:
        command: name of its root config.
        names: such as ``optimizer``, ``optimizer.lr``, or ``lr`` alone.
        config_name: root config composed in its place.
        overrides: that choose groups and values first.

    Raises:
        UserError: for a name that no option has, with the nearest.
    """
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose(config_name, [*overrides], return_hydra_config=True)
        if OmegaConf.is_missing(cfg, "ckpt") and cfg.hydra.runtime.choices.get("inference") == "checkpoint":
            cfg = hydra.compose(config_name, ["inference=single", *overrides], return_hydra_config=True)
    values = {name: value for name, value in as_plain(cfg, resolve=False).items() if name != "hydra"}
    options = list(_options(values, model_of(command, values), ()))
    notes = remarks(command) | _notes_of_groups(dict(cfg.hydra.runtime.choices))
    lines = []
    for name in names:
        found = [each for each in options if f"{each.name}.".startswith(f"{name}.")]
        found = found or [each for each in options if each.name.rpartition(".")[2] == name]
        if not found:
            known = [each.name for each in options]
            hint = nearest(name, known) or nearest(name, {each.rpartition(".")[2] for each in known})
            raise UserError(f"{name}: there is no such option.{hint} --help alone lists groups, --cfg job every option")
        for each in found:
            what = "" if each.kind is None else words(each.kind)
            lines.append((f"{each.name}={written(each.value)}", what, notes.get(each.name, "")))
    width = min(40, max(len(first) for first, _, _ in lines))
    return "\n".join(_shown(*line, width=width) for line in lines)


def remarks(file: str) -> dict[str, str]:
    """Option -> its comment in ``conf/<file>.yaml``, options inside others with dots."""
    notes, above = {}, [(-1, "")]
    for line in (CONFIG_DIR / f"{file}.yaml").read_text(encoding="utf-8").splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        indent = len(found["indent"])
        while above[-1][0] >= indent:
            above.pop()
        path = f"{above[-1][1]}{found['name']}"
        above.append((indent, f"{path}."))
        if found["note"]:
            notes[path] = found["note"].strip()
    return notes


def _notes_of_groups(choices: Mapping[str, Any]) -> dict[str, str]:
    """The comments in the files that were chosen, by full name of the option."""
    notes: dict[str, str] = {}
    for group, choice in choices.items():
        for file in _with_bases(group, choice):
            package = _PACKAGE.match((CONFIG_DIR / f"{file}.yaml").read_text(encoding="utf-8"))
            prefix = group.replace("/", ".") if package is None else package[1]
            start = "" if prefix == "_global_" else f"{prefix}."
            notes = {f"{start}{name}": note for name, note in remarks(file).items()} | notes
    return notes


def _with_bases(group: str, choice: Any) -> Iterator[str]:
    """The file of a choice, and those of its group that it builds on."""
    path = CONFIG_DIR / group / f"{choice}.yaml"
    if group.startswith("hydra") or not path.is_file():  # what a checkpoint was trained with has no file
        return
    yield f"{group}/{choice}"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for base in content.get("defaults", ()):
        if isinstance(base, str) and base != "_self_":
            yield from _with_bases(group, base)


def _options(node: Any, kind: Any, path: tuple[str, ...]) -> Iterator[_Option]:
    """Every option in ``node``, which ``kind`` describes."""
    kinds = _kinds_inside(node, kind, path)
    if not isinstance(node, Mapping) or (kinds is None and path):
        yield _Option(".".join(path), node, kind)
        return
    for name, value in node.items():
        if not str(name).startswith("_"):
            yield from _options(value, (kinds or {}).get(name), (*path, str(name)))


def _kinds_inside(node: Any, kind: Any, path: tuple[str, ...]) -> Mapping[str, Any] | None:
    """What the options inside ``node`` may be; ``None`` where it is a value of its own."""
    if isinstance(node, Mapping) and "_target_" in node:
        from ..build.allowed import called_at  # imports torch, which --help alone need not wait for

        return spelled_hints(called_at(path, node["_target_"]))
    models = [each for each in (kind, *typing.get_args(kind)) if isinstance(each, type) and issubclass(each, Options)]
    if not models:
        return {} if isinstance(node, Mapping) and any(isinstance(each, Mapping) for each in node.values()) else None
    return {name: annotation_of(field) for name, field in models[0].model_fields.items()}


def _shown(first: str, what: str, note: str, *, width: int) -> str:
    """One option: name and value, what it may be, and the remark, wrapped below where the terminal is narrow."""
    lines = f"  {first:<{width}}  {what}"
    if not note:
        return lines.rstrip()
    columns = shutil.get_terminal_size((120, 24)).columns
    together = f"{lines}  ({note})"
    return together if len(together) <= columns else f"{lines.rstrip()}\n  {'':<{width}}  ({note})"
