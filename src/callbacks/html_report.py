"""Page: ``report.html`` of a run, written anew with each validation."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from src.reports.page import refresh_page
from src.reports.summary_table import write_scores

__all__ = ["Page"]


class Page(Callback):
    """After each validation, writes ``validation.json``, its scores, and ``report.html``.

    To be listed after the callbacks whose files it shows: ``History``, ``Panels``. Where the page cannot be written,
    that is said once and the run goes on.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._broken = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.state.fn != "fit" or trainer.sanity_checking or self._broken:
            return
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        path = self.run_dir / "validation.json"
        try:
            write_scores(pl_module.val_scores, pl_module.label_space, path, protocol=place)
        except OSError as error:
            print(f"{path}: not written ({error.strerror}); the run goes on", flush=True)
            self._broken = True
            return
        self._broken = not refresh_page(self.run_dir)
