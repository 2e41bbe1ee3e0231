"""What a run prints at its start and its end, and the scores that it leaves in its folder."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from ..data import LabelSpace, SegmentationDataModule
from ..errors import noted
from ..files.atomic import write_bytes
from ..files.project import as_called
from ..files.run_files import REPORT, charts_folder, per_image_file, scores_file
from ..loggers.run_logger import run_logger
from ..metrics import Measures, Scores
from ..runtime.environment import device_name
from .page import refresh_page
from .png_charts import draw_scores
from .remarks import remark
from .run_folder import Run
from .scores_file import write_scores
from .summary_table import summary_table

__all__ = ["headline", "log_test", "pictures", "quiet", "say", "scores"]

_NOISE = (
    "The .*dataloader.* does not have many workers",  # num_workers is chosen on purpose
    "Checkpoint directory .* exists and is not empty",  # resuming in place
    "The number of training batches .* is smaller than the logging interval",
    "Starting from v1.9.0, `tensorboardX` has been removed",
    "Experiment logs directory .* exists and is not empty",
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    "It is recommended to use `self.log\\(.*, sync_dist=True\\)`",  # every rank logs the score of all
    "You have turned on `Trainer.overfit_batches",
)


def quiet() -> None:
    """Silences what libraries print about choices made on purpose; real warnings still show."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", message=f".*{pattern}")


def say(line: str) -> None:
    """Prints at once, also into a pipe; commands in it are called as they are typed here."""
    print(as_called(line), flush=True)


def headline(net: nn.Module, datamodule: SegmentationDataModule, *, model: str, data: str, run_dir: Path) -> str:
    """Net, data, device and folder of a run in two lines."""
    parameters = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    first, second = datamodule.pool_sizes
    counts = f"{first} train{f' + {second} extra' if second else ''}, {len(datamodule.val_dataset)} val"
    return (
        f"{model} ({parameters:.2f} M parameters) on {data} ({counts}), {device_name()}\nrun folder: {_short(run_dir)}"
    )


def scores(
    result: Scores,
    label_space: LabelSpace,
    run_dir: Path,
    *,
    stage: str,
    seconds: float,
    throughput: float = math.nan,
    paths: dict[str, Path | None] | None = None,
    measures: Measures | None = None,
    protocol: dict[str, Any] | None = None,
) -> None:
    """Writes scores as JSON and the counts of each image as CSV, and prints them as a table.

    Args:
        result: what was measured.
        label_space: names and colours of its classes.
        run_dir: where it is written.
        stage: word in the file names (``scores_<stage>.json``, ``per_image_<stage>.csv``).
        seconds: of the run.
        throughput: training images per second.
        paths: further places to print.
        measures: further measures of the test.
        protocol: how, to be saved with the scores.
    """
    if measures is not None:
        index = measures.images.to_csv(label_space.names)
        write_bytes(run_dir / per_image_file(stage), index.encode(errors="surrogateescape"))
    path = run_dir / scores_file(stage)
    write_scores(result, label_space, path, measures=measures, protocol=protocol)
    own = {"charts": run_dir / charts_folder(stage), f"{stage} scores": path, "report": run_dir / REPORT}
    places = {name: _short(place) for name, place in {**(paths or {}), **own}.items() if place is not None}
    facts = {"seconds": seconds, "images_per_second": throughput, "paths": places, "measures": measures}
    say(summary_table(result, label_space, **facts))
    with noted("the remark on this run"):
        if line := remark(Run(run_dir)):
            say(line)


def pictures(result: Scores, label_space: LabelSpace, run_dir: Path, *, stage: str) -> None:
    """Draws the charts of written scores, and the page; what fails is reported and does not stop the run."""
    folder = run_dir / charts_folder(stage)
    with noted(folder):
        draw_scores(result, label_space, folder)
    refresh_page(run_dir)


def _short(path: Path) -> Path:
    """Relative to the working folder where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def log_test(trainer: pl.Trainer, result: Scores, names: Sequence[str], metrics: dict[str, Any]) -> None:
    """Sends the scores of a test to the loggers of its run, and closes them.

    Args:
        trainer: of the fit.
        result: of the test.
        names: of the classes.
        metrics: the scalars of the test.
    """
    step = trainer.global_step
    for logger in trainer.loggers:
        shown = run_logger(logger)
        logger.log_metrics(metrics, step=step)
        shown.log_scores("test", result, names, step=step)
        logger.finalize("success")
        shown.close()
