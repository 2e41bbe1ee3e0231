"""Where the project's own files lie, and its name: ``src`` in a clone, ``semseg`` where it is installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = [
    "COMMANDS",
    "CONFIG_DIR",
    "INSTALLED",
    "PACKAGE",
    "PROJECT",
    "as_called",
    "pip_install",
    "refuse_other_name",
    "running_name",
    "written_name",
]

PACKAGE = __name__.partition(".")[0]
INSTALLED = PACKAGE != "src"
PROJECT = Path(__file__).resolve().parents[2]
CONFIG_DIR = PROJECT / PACKAGE / "conf" if INSTALLED else PROJECT / "conf"

COMMANDS = (
    "train", "evaluate", "predict", "doctor", "sweep", "export", "convert", "autolabel", "submit", "benchmark",
    "push", "dashboard", "shards",
)  # fmt: skip
_COMMAND = re.compile(rf"(?:python -m )?(?<![\w/.-])src\.({'|'.join(COMMANDS)})\b(?!\.)")


def refuse_other_name() -> None:
    """Ends an import where the project is imported already under its other name: its classes would be there twice.

    Raises:
        ImportError: in that case.
    """
    other = "src" if INSTALLED else "semseg"
    if f"{other}.files.project" in sys.modules:
        raise ImportError(
            f"this process has imported the project as {other} already (semseg is what pip installed, src is a clone);"
            f" import {other} alone"
        )


def written_name(name: str) -> str:
    """The name of a module or of something in it as configs, checkpoints and caches write it: ``src.models.FCN``."""
    own = name == PACKAGE or name.startswith(f"{PACKAGE}.")
    return f"src{name.removeprefix(PACKAGE)}" if own else name


def running_name(name: str) -> str:
    """The name that leads to what configs call ``name``: ``semseg.models.FCN`` where the project is installed."""
    own = name == "src" or name.startswith("src.")
    return f"{PACKAGE}{name.removeprefix('src')}" if own else name


def pip_install(extra: str, packages: str) -> str:
    """What brings optional packages: ``pip install 'semseg[ray]'``, in a clone ``pip install ray==2.60.0``."""
    return f"pip install 'semseg[{extra}]'" if INSTALLED else f"pip install {packages}"


def as_called(text: str) -> str:
    """``text`` with the commands in it as they are typed here: ``semseg train`` for ``src.train`` where installed."""
    return _COMMAND.sub(r"semseg \1", text) if INSTALLED else text
