"""Completion in bash and zsh: ``eval "$(semseg completion bash)"`` completes commands, groups, choices and options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..files.project import CONFIG_DIR

__all__ = ["SHELLS", "completions", "script"]

SHELLS = ("bash", "zsh")

_SCRIPT = """_semseg() {
  local IFS=$'\\n'
  COMPREPLY=($(semseg complete SHELL "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _semseg semseg
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
_OPTION = re.compile(r"(?P<indent> *)(?P<name>\w+):(?P<value>.*)")


def script(shell: str) -> str:
    """What a shell of ``SHELLS`` evaluates to complete ``semseg``."""
    return (_ZSH if shell == "zsh" else "") + _SCRIPT.replace("SHELL", shell)


def completions(shell: str, line: str, commands: Sequence[str]) -> list[str]:
    """What the last word of a line may become; nothing where a file name or a number is wanted.

    Args:
        shell: of ``SHELLS``; bash replaces only what stands behind ``=``.
        line: from ``semseg`` to the cursor.
        commands: that there are.
    """
    if " " not in line:
        return []
    _, *before, word = line.split(" ")
    if not before:
        return [name for name in commands if name.startswith(word)]
    group, equals, start = word.partition("=")
    if not equals:
        names = (f"{name}=" for name in (*_groups(), *_options(before[0])))
        return sorted({name for name in names if name.startswith(word)})
    found = [path.stem for path in (CONFIG_DIR / group).glob("*.yaml")] if group in _groups() else []
    return sorted(name if shell == "bash" else f"{group}={name}" for name in found if name.startswith(start))


def _groups() -> list[str]:
    folders = (path for path in CONFIG_DIR.rglob("*") if path.is_dir() and any(path.glob("*.yaml")))
    return [path.relative_to(CONFIG_DIR).as_posix() for path in folders]


def _options(command: str) -> Iterator[str]:
    """The options of a root config by their full names, those of the groups that it chooses by default included."""
    path = CONFIG_DIR / f"{command}.yaml"
    if not re.fullmatch(r"\w+", command) or not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    yield from _named(text, "")
    for group, choice in re.findall(r"^  - (?:override /?)?([\w/]+): (\w+)", text, re.MULTILINE):
        file = CONFIG_DIR / group / f"{choice}.yaml"
        if file.is_file() and not group.startswith("hydra"):
            yield from _named(file.read_text(encoding="utf-8"), f"{group.replace('/', '.')}.")


def _named(text: str, prefix: str) -> Iterator[str]:
    """The keys of a YAML file as it is written: two spaces a level."""
    path: list[str] = []
    for line in text.splitlines():
        key = _OPTION.fullmatch(line)
        if key is None:
            continue
        path = [*path[: len(key["indent"]) // 2], key["name"]]
        if path[0] not in ("defaults", "hydra") and not key["name"].startswith("_"):
            yield prefix + ".".join(path)
