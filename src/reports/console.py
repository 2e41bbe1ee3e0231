"""What a run says at its start and its end, on the console and in its folder."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from src.data import LabelSpace, SegmentationDataModule
from src.errors import noted
from src.files.atomic import write_bytes
from src.metrics import Measures, Scores
from src.reports.charts import draw_scores
from src.reports.page import REPORT, refresh_page
from src.reports.remarks import remark
from src.reports.run_folder import Run
from src.reports.summary_table import summary_table, write_scores
from src.runtime.environment import device_name

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
    """Leaves the console to this project's own lines; real warnings still show."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", message=f".*{pattern}")


def say(line: str) -> None:
    """Prints at once, also into a pipe."""
    print(line, flush=True)


def headline(
    module: pl.LightningModule, datamodule: SegmentationDataModule, *, model: str, data: str, run_dir: Path
) -> str:
    """Net, data, device and place of a run in two lines."""
    parameters = sum(parameter.numel() for parameter in module.net.parameters()) / 1e6
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
    throughput: float = float("nan"),
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
        measures: what else was measured.
        protocol: how, to be saved with the scores.
    """
    path = run_dir / f"scores_{stage}.json"
    if measures is not None:
        index = measures.images.to_csv(label_space.names)
        write_bytes(run_dir / f"per_image_{stage}.csv", index.encode(errors="surrogateescape"))
    write_scores(result, label_space, path, measures=measures, protocol=protocol)
    pages = {"charts": _charts(run_dir, stage), f"{stage} scores": path, "report": run_dir / REPORT}
    places = {**(paths or {}), **pages}
    places = {name: _short(place) for name, place in places.items() if place is not None}
    facts = {"seconds": seconds, "images_per_second": throughput, "paths": places, "measures": measures}
    say(summary_table(result, label_space, **facts))
    with noted("the remark on this run"):
        if line := remark(Run(run_dir)):
            say(line)


def pictures(result: Scores, label_space: LabelSpace, run_dir: Path, *, stage: str) -> None:
    """Draws the charts of scores that are written, and the page; what goes wrong is told, and ends nothing."""
    with noted(_charts(run_dir, stage)):
        draw_scores(result, label_space, _charts(run_dir, stage))
    refresh_page(run_dir)


def _charts(run_dir: Path, stage: str) -> Path:
    return run_dir / ("charts" if stage == "val" else f"charts_{stage}")


def _short(path: Path) -> Path:
    """Relative to the working folder where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def log_test(trainer: pl.Trainer, metrics: dict[str, Any]) -> None:
    """Sends test metrics, and where a logger can show it the table of classes, to the run's loggers and closes them."""
    module, step = trainer.lightning_module, trainer.global_step
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=step)
        if hasattr(logger, "log_scores"):
            logger.log_scores("test", module.test_scores, module.label_space, step=step)
        logger.finalize("success")
        if hasattr(logger, "close"):
            logger.close()
