"""Dashboards: what a validation shows beside its scalars, for the loggers that can show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from ..files.run_files import CONFIG, LATEST_PANEL, charts_folder
from ..files.untrusted import read_yaml
from ..loggers.run_logger import RunLogger, run_logger
from ..training.module import SegmentationModule
from ..training.trainer_parts import callbacks_of
from .after_validation import AfterValidation
from .panels import Panels

__all__ = ["Dashboards"]

_PICTURES = {
    "val/panels": LATEST_PANEL,
    "val/confusion_matrix": f"{charts_folder('val')}/confusion_matrix.png",
    "val/iou_of_classes": f"{charts_folder('val')}/per_class_iou.png",
}


class Dashboards(AfterValidation):
    """Sends config, best score, fixed validation images, confusion matrix and class table to the run's loggers.

    wandb gets all of it, TensorBoard the pictures that other callbacks drew; others have the scalars only (see
    ``src.loggers.run_logger``). To be listed after ``Panels`` and ``Charts``. An error here is reported once and does
    not stop the run.

    Args:
        run_dir: folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._best = float("-inf")
        self._told = False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = self.run_dir / CONFIG
        if trainer.is_global_zero and path.is_file():
            config = read_yaml(path, remedy="correct it, or start a new run")
            for logger in trainer.loggers:
                self._try(logger, lambda shown: shown.log_config(config))

    def after_validation(self, trainer: Trainer, module: SegmentationModule) -> None:
        self._best = max(self._best, module.val_scores.miou)  # in this order nan never wins
        names, step = module.label_space.names, trainer.global_step
        files = {name: self.run_dir / file for name, file in _PICTURES.items() if (self.run_dir / file).is_file()}
        examples = [example for panels in callbacks_of(trainer, Panels) for example in panels.examples]

        def show(shown: RunLogger) -> None:
            if self._best >= 0:  # no score as yet: every label was ignored
                shown.log_best(self._best)
            shown.log_scores("val", module.val_scores, names, step=step)
            shown.log_pictures(files, examples, names, step=step)

        for logger in trainer.loggers:
            self._try(logger, show)

    def _try(self, logger: Logger, send: Callable[[RunLogger], None]) -> None:
        try:
            send(run_logger(logger))
        except Exception as error:  # a dashboard is never worth a run
            if not self._told:
                reason = " ".join(str(error).split()) or type(error).__name__
                print(f"{type(logger).__name__}: pictures not sent ({reason}); the run goes on", flush=True)
            self._told = True
