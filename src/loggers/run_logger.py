"""What loggers show of a run beside its scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from ..metrics import Scores

__all__ = ["Example", "RunLogger", "run_logger"]


@dataclass(frozen=True)
class Example:
    """A validation image, (H,W,3) uint8 RGB, with truth and prediction, (H,W) uint8 train ids."""

    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


class RunLogger:
    """Base of a logger that shows more than scalars: it overrides what it can show, the default is nothing.

    Only the first device calls these. ``step`` is that of the optimiser, ``names`` are those of the classes.
    """

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Shows the resolved config; ``config`` are plain containers."""

    def log_best(self, miou: float) -> None:
        """Shows the best ``val/miou`` so far, the figure of the run in tables."""

    def log_scores(self, stage: str, scores: Scores, names: Sequence[str], *, step: int) -> None:
        """Shows the scores of the classes; ``stage`` is ``val`` or ``test``."""

    def log_pictures(
        self, files: Mapping[str, Path], examples: Sequence[Example], names: Sequence[str], *, step: int
    ) -> None:
        """Shows fixed validation images, and picture files by name: ``val/panels``, ``val/confusion_matrix``, ..."""

    def close(self) -> None:
        """Ends the run: a process that trains again begins another."""


class _TensorBoard(RunLogger):
    def __init__(self, logger: TensorBoardLogger) -> None:
        self.logger = logger

    def log_pictures(
        self, files: Mapping[str, Path], examples: Sequence[Example], names: Sequence[str], *, step: int
    ) -> None:
        for name, path in files.items():
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
            self.logger.experiment.add_image(name, image, step, dataformats="HWC")


def run_logger(logger: Logger) -> RunLogger:
    """What ``logger`` shows beside scalars: itself, the pictures of TensorBoard, or nothing."""
    if isinstance(logger, RunLogger):
        return logger
    return _TensorBoard(logger) if isinstance(logger, TensorBoardLogger) else RunLogger()
