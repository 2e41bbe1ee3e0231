"""History: the logged scalars as rows of a CSV file that grows during training."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from ..files.atomic import naming, write_bytes
from ..files.run_files import HISTORY
from ..training.module import SegmentationModule
from ..training.trainer_parts import at_log_step
from .after_validation import AfterValidation

__all__ = ["History"]

_FIRST = ("step", "epoch")  # columns


class History(AfterValidation):
    """Writes ``metrics.csv``: a row of training scalars every ``log_every_n_steps`` steps, a full row per validation.

    Columns are ``step`` (optimiser steps taken), ``epoch`` (from 0), then the scalars in the order they first appeared;
    a cell is empty where a row does not have the scalar. Rows reach the disk one by one, so a killed run keeps them.
    A run that is resumed from step N drops what an earlier attempt wrote past N; a new run begins a new file. A line
    says which rows cannot be read; a file that is no history at all is kept as ``metrics_unreadable.csv``.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.path = Path(run_dir) / HISTORY
        self._columns: list[str] = []
        self._step = 0  # of the last training row: batches of one accumulated step share it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        if not trainer.is_global_zero:
            return
        self._columns, rows = _read(self.path) if self.path.exists() else ([*_FIRST], [])
        self._rewrite([row for row in rows if int(row[0]) <= trainer.global_step])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if trainer.is_global_zero and step != self._step and at_log_step(trainer):
            self._step = step
            self._append(trainer, {k: v for k, v in trainer.callback_metrics.items() if not k.startswith("val/")})

    def after_validation(self, trainer: Trainer, module: SegmentationModule) -> None:
        names, absent = module.label_space.names, module.val_scores.absent
        stale = {f"val/iou/{names[index]}" for index in absent}  # Lightning still holds an earlier epoch's value
        self._append(trainer, {k: v for k, v in trainer.callback_metrics.items() if k not in stale})

    def _append(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        row = {"step": trainer.global_step, "epoch": trainer.current_epoch}
        row |= {name: f"{float(value):.6g}" for name, value in metrics.items()}
        if new := [name for name in row if name not in self._columns]:
            rows = _read(self.path)[1]
            self._columns += new
            self._rewrite([[*old, *[""] * len(new)] for old in rows])
        with naming(self.path), self.path.open("a", newline="") as file:
            _writer(file).writerow([row.get(name, "") for name in self._columns])

    def _rewrite(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        _writer(text).writerows([self._columns, *rows])
        write_bytes(self.path, text.getvalue().encode())


def _writer(file: Any) -> Any:
    return csv.writer(file, lineterminator="\n")


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and rows; a last row that a kill cut short is left out."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            columns, *rows = csv.reader(line for line in file if line.endswith("\n"))
        except (csv.Error, ValueError):
            columns, rows = [], []
    if tuple(columns[: len(_FIRST)]) != _FIRST:
        kept = path.rename(path.with_name("metrics_unreadable.csv"))
        print(f"note: {path} is no history of a run; it is kept as {kept.name}, and a new one begins", flush=True)
        return [*_FIRST], []
    whole = [row for row in rows if len(row) == len(columns) and all(map(_is_count, row[: len(_FIRST)]))]
    if lost := len(rows) - len(whole):
        print(f"note: {path}: {lost} rows cannot be read and are left out", flush=True)
    return columns, whole


def _is_count(cell: str) -> bool:
    return cell.isdecimal() and len(cell) < 20
