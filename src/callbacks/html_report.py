"""Page: ``report.html`` of a run, written again after each validation."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import Trainer

from ..files.run_files import VALIDATION
from ..reports.page import refresh_page
from ..reports.scores_file import write_scores
from ..training.module import SegmentationModule
from .after_validation import AfterValidation

__all__ = ["Page"]


class Page(AfterValidation):
    """After each validation, writes ``validation.json``, its scores, and ``report.html``.

    To be listed after the callbacks whose files it shows: ``History``, ``Panels``. Where the page cannot be written,
    a line says so once, and the run continues.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._broken = False

    def after_validation(self, trainer: Trainer, module: SegmentationModule) -> None:
        if self._broken:
            return
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        path = self.run_dir / VALIDATION
        try:
            write_scores(module.val_scores, module.label_space, path, protocol=place)
        except OSError as error:
            print(f"{path}: not written ({error.strerror}); the run goes on", flush=True)
            self._broken = True
            return
        self._broken = not refresh_page(self.run_dir)
