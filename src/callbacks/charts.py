"""Charts of a run while it trains."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from src.callbacks.history import History
from src.errors import UserError, noted
from src.reports.charts import draw_curves, draw_scores

__all__ = ["Charts"]


class Charts(Callback):
    """After each validation, draws the run so far into ``charts/``.

    To be listed after ``History``, whose ``metrics.csv`` it reads.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not any(isinstance(callback, History) for callback in trainer.callbacks):
            raise UserError("callbacks.charts draws what callbacks.history writes; set callbacks.charts=null as well")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking:
            folder = self.run_dir / "charts"
            with noted(folder):
                draw_curves(self.run_dir / "metrics.csv", folder)
                draw_scores(pl_module.val_scores, pl_module.label_space, folder)
