"""What was meant by an option, a choice or a word that the config does not have."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..build.config_values import as_plain
from ..errors import nearest
from ..files.project import CONFIG_DIR
from .overrides import name_of

__all__ = ["NO_PACKAGE", "explain", "unknown_flag"]

NO_PACKAGE = "its file has to begin with the line `# @package _global_`; without it nothing that it sets has an effect"
_RECIPES = ("experiment", "debug")  # groups whose files change options of all others
# Names that other programs give to options.
_ALSO_CALLED = {
    "learning_rate": "optimizer.lr",
    "batch": "data.batch_size",
    "workers": "data.num_workers",
    "iterations": "trainer.max_steps",
    "steps": "trainer.max_steps",
    "gpus": "trainer.devices",
    "device": "trainer.accelerator",
    "amp": "trainer.precision",
    "crop": "transforms.crop_size",
    "image_size": "transforms.crop_size",
    "img_size": "transforms.crop_size",
    "augmentation": "transforms",
    "weights": "init_from",
    "checkpoint": "init_from",
    "output_dir": "hydra.run.dir",
}
# What a word without a name is for, command by command; elsewhere a checkpoint.
_WORDS = {
    "predict": "source",
    "autolabel": "source",
    "sweep": "sweep",
    "dashboard": "run",
    "doctor": "data.root",
    "shards": "data.root",
    "prepare": "data.root",
    "train": "data.root",
}


def explain(error: Exception, config_name: str, *, also: Iterable[str] = (), overrides: Sequence[str] = ()) -> str:
    """Return one line for a mistake in the overrides, or in a file that they choose.

    Args:
        error: what Hydra, OmegaConf or YAML raised.
        config_name: root config.
        also: options that exist besides those of the config.
        overrides: the command line; what exists depends on the choices in it.
    """
    text = str(error).strip()
    if recipe := re.search(r"In '(\w+)/(\S+)': Could not override '\S+@\1\.", text):
        return f"{recipe[1]}={recipe[2]}: {NO_PACKAGE}"
    if choice := re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        return _no_choice(choice[1], choice[2], text)
    if key := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text):
        full = re.search(r"full_key: (\S+)", text)
        name = full.group(1) if full else next(filter(None, key.groups()))
        inside = re.search(r"In '([^']+)'", text)
        where = f"{inside[1]}.yaml: " if inside and inside[1] != config_name else ""
        hint = _meant(name, config_name, tuple(also), overrides)
        return f"{where}{name}: there is no such option.{hint} All options: --cfg job; +name=value adds one"
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        name, _, value = several[1].partition("=")
        return (
            f"{several[1]}: one value is wanted; a list is '{name}=[{value}]', and src.sweep runs one training after"
            " another"
        )
    if twice := re.search(r"Multiple values for (\S+)\. To override a value use 'override ([^']+)'", text):
        return f"{twice[1]} is chosen twice; in a file of options write it as `- override /{twice[2]}` under defaults"
    if there := re.search(r"An item is already at '([^']+)'", text):
        return f"+{there[1]}: this option exists already; leave out the +"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}; correct this line of YAML, or the one before"
    if "Config group override" in text:
        return _no_name(overrides)
    if gone := re.search(r"Could not delete.* '([^']+)'", text):
        return f"~{gone[1]}: there is no such option.{_meant(gone[1], config_name, tuple(also), overrides)}"
    if "override_grammar" in text:
        given = error.override if isinstance(error, OverrideParseException) else text.splitlines()[0]
        return _unreadable(given, config_name)
    if override := re.search(r"Error merging override (.*)", text):
        return rf"{override[1]}: cannot be read{_cause(error)}; where ${{ is part of a name, write \${{"
    return " ".join(line.strip() for line in text.splitlines()[:3])


def unknown_flag(flag: str, config_name: str) -> str:
    """Return one line for ``--lr``, as other programs have options."""
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    hint = _meant(name, config_name, (), ()) or " --help lists options."
    return f"{flag}: there is no such flag; options are written name=value, without dashes.{hint}"


def _cause(error: Exception) -> str:
    return f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ else ""


def _no_choice(group: str, option: str, text: str) -> str:
    listed = re.search(r"Available options in '[^']+':\n((?:\t\S+\n?)+)", text)
    options = listed[1].split() if listed else sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
    hint = _as_value(group, option) or nearest(option, options)
    return f"{group}={option}: there is no such option.{hint} {group} is one of: {', '.join(options)}"


def _no_name(overrides: Sequence[str]) -> str:
    values = re.compile(r"[^=]*=(null|true|false|[\d.]*)")
    groups = ("", *_groups())
    wrong = next((item for item in overrides if name_of(item) in groups and values.fullmatch(item)), "a group")
    return f"{wrong}: names no option of this group; choose one, or leave this out (--help lists them)"


def _as_value(group: str, word: str) -> str:
    """Where a file of the group lists ``word`` among the values of one of its options, as ``arch: a # b, c``."""
    for path in sorted((CONFIG_DIR / group).glob("*.yaml")):
        text = path.read_text()
        lines = text.splitlines()
        for name, node in _scalars(yaml.compose(text)):
            comment = lines[node.start_mark.line].partition("#")[2].strip()
            if re.fullmatch(r"[\w-]+(, [\w-]+)+", comment) and word in (node.value, *comment.split(", ")):
                return f" It is available as {group}={path.stem} {group}.{name}={word}."
    return ""


def _scalars(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Dotted names of a YAML tree, with where their values stand."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(value, yaml.ScalarNode):
            yield f"{prefix}{key.value}", value
        else:
            yield from _scalars(value, f"{prefix}{key.value}.")


def _meant(name: str, config_name: str, also: tuple[str, ...], overrides: Sequence[str]) -> str:
    """A hint at the option that was meant by one that does not exist."""
    tree = _tree(config_name, overrides)
    keys = [*also, *_groups(), *_keys(tree)]
    known = [key for key in keys if key != name and not key.rpartition(".")[2].startswith("_")]
    parent, _, last = name.rpartition(".")
    if same := [key for key in known if key.endswith(f".{last}") or key == last]:
        return f" Did you mean '{min(same, key=_rank(config_name))}'?"
    if elsewhere := _of_other_choices(name):
        return elsewhere
    if (called := _ALSO_CALLED.get(last)) and (called in known or called.startswith("hydra.")):
        return f" Did you mean '{called}'?"
    children = [key.rpartition(".")[2] for key in known if parent and key.rpartition(".")[0] == parent]
    if children:
        close = nearest(last, children).replace("'", f"'{parent}.", 1)
        return close or f" {parent} has: {', '.join(children)}."
    ends = defaultdict(list)
    for key in known:
        ends[key.rpartition(".")[2]].append(key)
    return nearest(name, known, cutoff=0.75) or _by_end(last, ends, config_name) or nearest(name, known)


def _by_end(last: str, ends: Mapping[str, list[str]], config_name: str) -> str:
    close = re.search(r"'(.*)'", nearest(last, ends, cutoff=0.6))
    return f" Did you mean '{min(ends[close[1]], key=_rank(config_name))}'?" if close else ""


def _rank(config_name: str) -> Any:
    """Orders options of one name: those that ``--help`` shows first, then those that lie highest."""
    path = CONFIG_DIR / f"{config_name}.yaml"
    shown = (path if path.is_file() else CONFIG_DIR / "train.yaml").read_text()
    return lambda key: (f"{key}=" not in shown, key.count("."), len(key))


def _of_other_choices(given: str) -> str:
    """Where other choices of a group have an option that is called as the last part of ``given``."""
    last = given.rpartition(".")[2]
    found = defaultdict(list)
    for path in sorted(CONFIG_DIR.rglob("*.yaml")):
        group = path.parent.relative_to(CONFIG_DIR).as_posix()
        if group in (".", "sweep", *_RECIPES) or f"{last}:" not in path.read_text():
            continue
        for name in _keys(as_plain(OmegaConf.load(path), resolve=False)):
            if name.rpartition(".")[2] == last:
                found[f"{group.replace('/', '.')}.{name}"].append(f"{group}={path.stem}")
    if not found:
        return ""
    name = max(found, key=lambda key: len(found[key]))
    first, *more = found[name]
    if name == given:
        return f" It is one of {first}{f' and {len(more)} others' if more else ''}."
    return f" Did you mean '{name}'? {first}{f' and {len(more)} others have' if more else ' has'} it."


def _tree(config_name: str, overrides: Sequence[str]) -> Any:
    """The config that the choices of the command line make, or if they do not make one, the default."""
    groups = set(_groups())
    choices = [item for item in overrides if name_of(item) in groups and not item.startswith("~")]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        for chosen in (choices, []):
            try:
                return as_plain(hydra.compose(config_name, list(chosen)), resolve=False)
            except (HydraException, OmegaConfBaseException, ValueError):
                continue
    return {}


def _groups() -> list[str]:
    return sorted(path.relative_to(CONFIG_DIR).as_posix() for path in CONFIG_DIR.rglob("*") if path.is_dir())


def _keys(tree: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of a config, its inner nodes included."""
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def _unreadable(override: str, config_name: str) -> str:
    name, mark, value = override.partition("=")
    if not mark:
        return f"{override}: options are written name=value{_for_word(override, config_name)}"
    if not re.fullmatch(r"(\+\+?|~)?[\w.$/@:-]+", name, re.ASCII):
        return f"{override}: '{name}' cannot be the name of an option; write name=value, without spaces around ="
    if value.count("[") != value.count("]") or value.count("{") != value.count("}"):
        example = "{a: 1, b: 2}" if value.startswith("{") else "[1, 2]"
        return f"{override}: cannot be read, since a bracket is missing; put all of it in quotes, as '{name}={example}'"
    return (
        f"{override}: this value cannot be read; put texts with , : [ ] {{ or }} in it into quotes of their own, and"
        " names with other letters than a to z before a colon into a file"
    )


def _for_word(word: str, config_name: str) -> str:
    """``; write source=photos``, for what a word alone most likely is."""
    own = _WORDS.get(config_name, "ckpt")
    group = next((name for name in (own, *_groups()) if (CONFIG_DIR / name / f"{word}.yaml").is_file()), None)
    if word.endswith((".ckpt", ".semseg.zip")) or (Path(word) / "checkpoints").is_dir():
        group = {"train": "init_from", "dashboard": "run"}.get(config_name, "ckpt")
    return f"; write {shlex.quote(f'{group or own}={word}')}"
