"""The files of a run folder: how a run begins it, and what they say when read back; each of them may be missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.files.atomic import write_bytes
from src.files.json_schema import SavedScores
from src.files.untrusted import read_curves, read_json, read_text, read_yaml
from src.runtime.environment import environment

__all__ = ["Run", "ScoreFile", "write_start"]

_REMEDY = "remove it, or score the run again"
_DRAWN = ("val/", "lr/", "train/loss", "train/images_per_second", "train/data_wait", "train/peak_memory_gb")


def write_start(run_dir: Path, config: str, *, resumed: bool = False) -> None:
    """Write ``config.yaml`` and ``environment.json``; ``*_resumed`` when a run goes on in its folder.

    Args:
        run_dir: folder of the run.
        config: YAML, resolved.
        resumed: the run goes on.
    """
    again = "_resumed" if resumed and (run_dir / "config.yaml").is_file() else ""
    write_bytes(run_dir / f"config{again}.yaml", config.encode())
    write_bytes(run_dir / f"environment{again}.json", (json.dumps(environment(), indent=2) + "\n").encode())


@dataclass(frozen=True)
class ScoreFile:
    """One file of scores; ``split`` is the word in its name, or ``validation`` for the last one of a fit."""

    split: str
    content: dict[str, Any]
    written: float

    @property
    def protocol(self) -> dict[str, Any]:
        return self.content.get("protocol") or {}


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
        return (self.folder / "metrics.csv").is_file() or bool(self._score_files())

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config, empty where there is none."""
        path = self.folder / "config.yaml"
        return read_yaml(path, remedy=_REMEDY) if path.is_file() else {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, command and device, empty where unknown."""
        path = self.folder / "environment.json"
        return read_json(path, dict[str, Any], remedy=_REMEDY) if path.is_file() else {}

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Scalar -> (2,N) float64, steps and finite values, N >= 1, of those that a page draws."""
        curves = {}
        for name, points in read_curves(self.folder / "metrics.csv").items():
            if name.startswith(_DRAWN):
                curve = np.array(points, float)
                curve = curve[np.isfinite(curve).all(1)]
                if len(curve):
                    curves[name] = curve.T
        return curves

    @cached_property
    def scores(self) -> list[ScoreFile]:
        """The newest first; the last validation is among them while it is newer than the others, or alone."""
        found = sorted(map(_scores, self._score_files()), key=lambda file: file.written, reverse=True)
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

    def text(self, name: str) -> str:
        """A text file's content, empty where there is none."""
        path = self.folder / name
        return read_text(path, remedy=_REMEDY) if path.is_file() else ""

    def _score_files(self) -> list[Path]:
        return [*self.folder.glob("scores_*.json"), *self.folder.glob("validation.json")]


def _scores(path: Path) -> ScoreFile:
    content = read_json(path, SavedScores, remedy=_REMEDY)
    return ScoreFile(path.stem.removeprefix("scores_"), content, path.stat().st_mtime)
