"""Charts of a run while it trains."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import LightningModule, Trainer

from ..errors import UserError, noted
from ..files.run_files import HISTORY, charts_folder
from ..reports.png_charts import draw_curves, draw_scores
from ..training.module import SegmentationModule
from ..training.trainer_parts import callbacks_of
from .after_validation import AfterValidation
from .history import History

__all__ = ["Charts"]


class Charts(AfterValidation):
    """After each validation, draws the run so far into ``charts/``.

    To be listed after ``History``, whose ``metrics.csv`` it reads.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not callbacks_of(trainer, History):
            raise UserError("callbacks.charts draws what callbacks.history writes; set callbacks.charts=null as well")

    def after_validation(self, trainer: Trainer, module: SegmentationModule) -> None:
        folder = self.run_dir / charts_folder("val")
        with noted(folder):
            draw_curves(self.run_dir / HISTORY, folder)
            draw_scores(module.val_scores, module.label_space, folder)
