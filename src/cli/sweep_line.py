"""The command line of ``src.sweep``: which options are its own, and which go to every trial."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from ..errors import UserError
from ..files.project import CONFIG_DIR
from .overrides import in_quotes, name_of, quoted, value_of

__all__ = ["OWN", "SPEC", "prepare"]

SPEC = "sweep.json"
OWN = tuple(OmegaConf.load(CONFIG_DIR / "sweep.yaml"))  # options; all others are those of trials


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Splits the command line: options of the sweep, and options of ``src.train``, which go to every trial."""
    others = [item for item in overrides if _is_of_trials(item)]
    own = [item for item in overrides if item not in others]
    again = next((name for name in ("resume", "report") if value_of(name, own)), None)
    if again is None:
        return "sweep", [*own, f"options=[{','.join(map(in_quotes, others))}]"] if others else own
    folder = Path(value_of(again, own) or "")
    if not (folder / SPEC).is_file():
        raise UserError(f"{again}={folder}: {folder / SPEC} not found; name the folder of a sweep, as it printed it")
    if changed := [*others, *(item for item in own if _head(item) in ("sweep", "options"))]:
        raise UserError(f"{changed[0]}: a sweep keeps its trials once it has begun; leave this out, or start a new one")
    return "sweep", [*own, quoted("hydra.run.dir", folder)]


def _is_of_trials(item: str) -> bool:
    """Not a flag such as ``--cfg job``, and not an option of the sweep itself."""
    return not item.startswith("-") and ("=" in item or item.startswith("~")) and _head(item) not in OWN


def _head(item: str) -> str:
    return name_of(item).split(".")[0].split("/")[0]
