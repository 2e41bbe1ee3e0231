"""The installed command: ``semseg train`` does what ``python -m src.train`` does in a clone."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from importlib import metadata
from pathlib import Path

from .cli.completion import SHELLS, completions, script
from .errors import nearest, printable
from .files.project import PACKAGE

__all__ = ["main"]

_COMMANDS = (
    "train", "evaluate", "predict", "doctor", "sweep", "export", "convert", "autolabel", "submit", "benchmark",
    "dashboard", "shards", "push",
)  # fmt: skip


def main() -> None:
    """Runs the command that the first word names, in its module, which torchrun and Lightning can start again."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(_help())
    elif name in ("completion", "complete"):
        print(_completion(name, sys.argv[2:]))
    elif name == "--version":
        print(f"semseg {metadata.version('semseg')}")
    elif name in _COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)
    else:
        said = f"{printable(name)}: there is no such command.{nearest(name, _COMMANDS)} semseg --help lists them"
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)


def _completion(name: str, words: list[str]) -> str:
    """``completion SHELL``: a script for the shell, which asks ``complete SHELL LINE`` what may follow."""
    if not words or words[0] not in SHELLS:
        print(f"error: semseg {name} {' '.join(SHELLS)}: name one of these shells", file=sys.stderr)
        sys.exit(1)
    return script(words[0]) if name == "completion" else "\n".join(completions(words[0], words[-1], _COMMANDS))


def _help() -> str:
    """Each command with the first words of its module, which is not imported for that."""
    lines = ["Semantic segmentation.  semseg COMMAND [group=option ...] [key=value ...]", ""]
    for name in _COMMANDS:
        module = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        first, *_ = re.split(r"[:\n]", ast.get_docstring(module) or "")
        lines.append(f"  semseg {name:<10} {first.rstrip('.')}")
    return "\n".join(
        [
            *lines,
            "",
            "semseg COMMAND --help says more of each.",
            'eval "$(semseg completion bash)" completes names; zsh likewise',
        ]
    )


if __name__ == "__main__":
    main()
