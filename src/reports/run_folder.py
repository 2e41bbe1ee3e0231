"""The files of a run folder: those that a run begins with, and what all say when read; each may be missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files.atomic import write_bytes
from ..files.run_files import CONFIG, ENVIRONMENT, HISTORY, VALIDATION, scores_file
from ..files.untrusted import read_curves, read_json, read_text, read_yaml
from ..runtime.environment import environment
from .scores_file import ScoreFile, read_scores

__all__ = ["Run", "read_history", "runs_below", "write_start"]

_REMEDY = "remove it, or score the run again"
_DRAWN = ("val/", "lr/", "train/loss", "train/images_per_second", "train/data_wait", "train/peak_memory_gb")


def write_start(run_dir: Path, config: str, *, resumed: bool = False) -> None:
    """Write ``config.yaml`` and ``environment.json``; ``*_resumed`` when a run is resumed in its folder.

    Args:
        run_dir: folder of the run.
        config: YAML, resolved.
        resumed: the run is.
    """
    again = resumed and (run_dir / CONFIG).is_file()
    for name, content in ((CONFIG, config), (ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")):
        write_bytes(run_dir / (_resumed(name) if again else name), content.encode())


def _resumed(name: str) -> str:
    path = Path(name)
    return f"{path.stem}_resumed{path.suffix}"


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Scalar of ``metrics.csv`` -> (2,N) float64 steps and values, N >= 1, nan included; empty without a file.

    Raises:
        UserError: for a broken file.
    """
    return {name: np.array(points, float).T for name, points in read_curves(path).items()}


def runs_below(folder: str | Path) -> list[Path]:
    """The run folders in ``folder``, at any depth, by name; ``folder`` itself if it is one.

    Raises:
        UserError: if there is none.
    """
    folder = Path(folder)
    if Run(folder).holds_results:
        return [folder]
    files = [*folder.rglob(HISTORY), *folder.rglob(scores_file("*"))]
    if not files:
        raise UserError(f"compare={folder}: no run with results lies there; name run folders, or a folder of them")
    return sorted({path.parent for path in files})


@dataclass(frozen=True)
class Run:
    """A folder that ``src.train`` or ``src.evaluate`` wrote.

    Raises:
        UserError: from its properties, for a file that is there and cannot be understood.
    """

    folder: Path

    @property
    def holds_results(self) -> bool:
        """Whether there is anything to show."""
        return (self.folder / HISTORY).is_file() or bool(self._score_files())

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config, empty where there is none."""
        path = self.folder / CONFIG
        return read_yaml(path, remedy=_REMEDY) if path.is_file() else {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, command and device, empty where unknown."""
        path = self.folder / ENVIRONMENT
        return read_json(path, dict[str, Any], remedy=_REMEDY) if path.is_file() else {}

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Scalar -> (2,N) float64, steps and finite values, N >= 1, of those that a page draws."""
        drawn = {name: curve for name, curve in read_history(self.folder / HISTORY).items() if name.startswith(_DRAWN)}
        finite = {name: curve[:, np.isfinite(curve).all(0)] for name, curve in drawn.items()}
        return {name: curve for name, curve in finite.items() if curve.size}

    @cached_property
    def scores(self) -> list[ScoreFile]:
        """The newest first; the last validation is among them while it is newer than the others, or alone."""
        files = [read_scores(path, remedy=_REMEDY) for path in self._score_files()]
        found = sorted(files, key=lambda file: file.written, reverse=True)
        return [file for place, file in enumerate(found) if place == 0 or file.split != "validation"]

    @cached_property
    def best(self) -> tuple[float, int]:
        """The highest validation mIoU (0..1, nan if there is none), and its step."""
        if "val/miou" not in self.curves:
            return float("nan"), 0
        steps, miou = self.curves["val/miou"]
        place = int(miou.argmax())
        return float(miou[place]), int(steps[place])

    @property
    def miou(self) -> float:
        """Of the newest scores, else the best of the validations; nan where there is neither."""
        given = self.scores[0].content.get("miou") if self.scores else None
        return self.best[0] if given is None else given

    @property
    def last_step(self) -> int:
        """Optimiser steps that the history knows of."""
        return max((int(curve[0, -1]) for curve in self.curves.values()), default=0)

    def select(self, *names: str) -> Any:
        """The config's value at a path of keys, ``None`` where it has none."""
        node: Any = self.config
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        return node

    @property
    def config_texts(self) -> list[tuple[str, str]]:
        """Name and content of the configs, of the first start and of the last resume."""
        paths = [self.folder / name for name in (CONFIG, _resumed(CONFIG))]
        texts = [(path.name, read_text(path, remedy=_REMEDY)) for path in paths if path.is_file()]
        return [(name, text) for name, text in texts if text]

    def _score_files(self) -> list[Path]:
        return [*self.folder.glob(scores_file("*")), *self.folder.glob(VALIDATION)]
