"""Training, scoring and checking in Python: the commands, with what they found as objects."""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from .build.from_checkpoint import checkpoint_file
from .cli import in_python
from .cli.overrides import value_of
from .commands import doctor as doctor_command
from .commands import evaluate as evaluate_command
from .commands import train as train_command
from .commands.doctor import Findings
from .errors import UserError
from .files.project import as_called
from .files.run_files import COMPARISON, HISTORY, per_image_file, scores_file
from .files.untrusted import read_json
from .metrics.per_image import PerImage
from .reports import run_folder
from .reports.scores_file import ScoreFile, read_scores
from .segmenter import Segmenter, load

__all__ = ["Comparison", "Evaluation", "Findings", "Run", "compare", "doctor", "evaluate", "train"]

_REMEDY = "score the run again"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of one split, read from the folder that they were written to.

    Attributes:
        folder: of the run.
        split: that was scored.
        miou: mean IoU over classes, 0..1; nan where no class has one.
        interval: 95 % interval of it over images, 0..1; ``None`` where it was not measured.
        iou: class -> IoU, 0..1, nan for a class that is neither in truth nor in prediction.
        confusion: (K,K) int64 pixels; rows are the truth, columns the prediction, in the order of ``iou``.
        protocol: how it was measured: data, sizes, inference, precision, checkpoint with its sha256, versions, date.
    """

    folder: Path
    split: str
    miou: float
    interval: tuple[float, float] | None
    iou: dict[str, float]
    confusion: np.ndarray = field(repr=False)
    protocol: dict[str, Any] = field(repr=False)

    def images(self) -> dict[str, float]:
        """Image -> mean IoU (0..1) over the classes in it or its prediction, the lowest first.

        Raises:
            UserError: if its file in the folder is missing or broken.
        """
        counted = PerImage.read(self.folder / per_image_file(self.split), list(self.iou))
        return {counted.names[index]: miou for index, miou in counted.poorest(len(counted))}


@dataclass(frozen=True)
class Comparison:
    """How the second of two runs differs from the first, on the same images.

    Attributes:
        split: whose scores are compared.
        images: how many both have scored.
        miou: of the first and of the second, 0..1.
        difference: second minus first, -1..1.
        interval: 95 % interval of the difference over images.
        p_value: 0..1, how often chance alone would give a difference this large.
        classes: class -> ``a`` and ``b`` (IoU of the first and the second), ``difference``, ``interval``; ``None``
            where undefined.
    """

    split: str
    images: int
    miou: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p_value: float
    classes: dict[str, dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Run:
    """A run of ``train`` or ``evaluate``; what is asked of it is read from its folder.

    Attributes:
        folder: of the run, where ``report.html`` shows everything.
    """

    folder: Path

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """An earlier run, by its folder.

        Raises:
            UserError: if there are no results in ``folder``.
        """
        if not run_folder.Run(Path(folder)).holds_results:
            raise UserError(
                as_called(f"{folder}: holds no results; name the folder of a run of src.train or src.evaluate")
            )
        return cls(Path(folder))

    @property
    def checkpoint(self) -> Path:
        """The weights that the run scored: the best by ``val/miou``, or the last.

        Raises:
            UserError: if it saved none, as a run of ``evaluate``.
        """
        return Path(checkpoint_file(self.folder))

    @cached_property
    def scores(self) -> Evaluation | None:
        """The newest scores, of the test split where it has labels; ``None`` before the first validation."""
        found = run_folder.Run(self.folder).scores
        return _evaluation(self.folder, found[0]) if found else None

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """Scalar (``train/loss``, ``val/miou``, ``lr/...``) -> (2,N) float64, steps and values; empty without one."""
        return run_folder.read_history(self.folder / HISTORY)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What it ran with, references resolved."""
        return run_folder.Run(self.folder).config

    @property
    def best(self) -> float:
        """The highest ``val/miou``, 0..1; nan where there was no validation."""
        return run_folder.Run(self.folder).best[0]

    def load(self, *overrides: str, device: str = "auto") -> Segmenter:
        """The net of ``checkpoint``, as ``semseg.load`` gives it."""
        return load(self.folder, *overrides, device=device)

    def _repr_html_(self) -> str:
        """What a notebook shows: the folder, and the scores as a table."""
        head = f"<p>{html.escape(str(self.folder))}</p>"
        if self.scores is None:
            return head
        rows = {f"mean IoU ({self.scores.split})": self.scores.miou, **self.scores.iou}
        cells = (f"<tr><td>{html.escape(name)}</td><td>{_percent(value)}</td></tr>" for name, value in rows.items())
        return f"{head}<table>{''.join(cells)}</table>"


def train(*overrides: str) -> Run:
    """Trains a net, as ``semseg train`` does with the same options, and scores it.

    Args:
        overrides: as they are typed, without quotes for a shell: ``"model=bisenetv2"``, ``"trainer.max_steps=500"``.

    Raises:
        UserError: with the sentence that the command would print.
        KeyboardInterrupt: when it is stopped; ``"resume=<folder>"`` goes on where it was.
    """

    def trained(cfg: DictConfig) -> Run:
        train_command.train(cfg)
        return Run(Path(cfg.run_dir))

    return in_python.run("train", overrides, trained)


def evaluate(*overrides: str) -> Evaluation:
    """Scores a checkpoint on a split, as ``semseg evaluate`` does with the same options.

    Args:
        overrides: as they are typed: ``"ckpt=runs/train/<run>"``, ``"split=test"``.

    Raises:
        UserError: with the sentence that the command would print.
    """
    if value_of("compare", [*overrides]) is not None:
        raise UserError("compare=: is not taken in Python; compare two runs with semseg.compare(first, second)")

    def scored(cfg: DictConfig) -> Evaluation:
        evaluate_command.evaluate(cfg)
        folder = Path(cfg.run_dir)
        return _evaluation(folder, read_scores(folder / scores_file(cfg.split), remedy=_REMEDY))

    return in_python.run("evaluate", overrides, scored)


def compare(first: str | Path, second: str | Path, *overrides: str) -> Comparison:
    """Compares two run folders on the images that both have scored, as ``semseg evaluate compare=[first,second]``.

    Args:
        first, second: run folders of ``train`` or ``evaluate``.
        overrides: as they are typed: ``"split=test"``.

    Raises:
        UserError: for runs without scores of one split, or with other classes or images.
    """

    def compared(cfg: DictConfig) -> Comparison:
        evaluate_command.evaluate(cfg)
        found = read_json(Path(cfg.run_dir) / COMPARISON, dict[str, Any], remedy=_REMEDY)
        return Comparison(
            found["split"],
            found["images"],
            (_or_nan(found["miou"][0]), _or_nan(found["miou"][1])),
            _or_nan(found["difference"]),
            (_or_nan(found["interval"][0]), _or_nan(found["interval"][1])),
            found["p_value"],
            found["classes"],
        )

    two = json.dumps([str(first), str(second)])
    return in_python.run("evaluate", [f"compare={two}", *overrides], compared)


def doctor(*overrides: str) -> Findings:
    """Checks a data set and this computer before training, as ``semseg doctor`` does with the same options.

    Args:
        overrides: as they are typed: ``"data=folder"``, ``"data.root=PATH"``, and any option of ``train``.

    Raises:
        UserError: if no split can be read, or for an option that cannot be.
    """
    return in_python.run("doctor", overrides, doctor_command.examine)


def _evaluation(folder: Path, file: ScoreFile) -> Evaluation:
    content = file.content
    return Evaluation(
        folder,
        file.split,
        miou=_or_nan(content.get("miou")),
        interval=file.interval,
        iou={name: _or_nan(value) for name, value in content.get("iou", {}).items()},
        confusion=np.array(content.get("confusion_matrix", []), np.int64),
        protocol=file.protocol,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f} %"
