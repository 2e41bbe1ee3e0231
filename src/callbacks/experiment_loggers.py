"""Dashboards: what a validation shows beside its scalars, for the loggers that can show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from src.callbacks.panels import Panels
from src.files.untrusted import read_yaml

__all__ = ["Dashboards"]

_PICTURES = {
    "val/panels": "panels/latest.png",
    "val/confusion_matrix": "charts/confusion_matrix.png",
    "val/iou_of_classes": "charts/per_class_iou.png",
}


class Dashboards(Callback):
    """Sends config, best score, fixed validation images, confusion matrix and class table to the run's loggers.

    A logger with ``log_config``, ``log_best`` and ``log_scores`` (``src.loggers.wandb.RunLogger``) gets all of it,
    TensorBoard the pictures that other callbacks drew; others have the scalars only. To be listed after ``Panels`` and
    ``Charts``. An error here is told once and ends nothing.

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
        path = self.run_dir / "config.yaml"
        if trainer.is_global_zero and path.is_file():
            config = read_yaml(path, remedy="correct it, or start a new run")
            for logger in trainer.loggers:
                if hasattr(logger, "log_config"):
                    self._try(logger, lambda logger=logger: logger.log_config(config))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._best = max(self._best, pl_module.val_scores.miou)  # in this order nan never wins
        for logger in trainer.loggers:
            self._try(logger, lambda logger=logger: self._show(logger, trainer, pl_module))

    def _try(self, logger: Logger, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:  # a dashboard is never worth a run
            if not self._told:
                reason = " ".join(str(error).split()) or type(error).__name__
                print(f"{type(logger).__name__}: pictures not sent ({reason}); the run goes on", flush=True)
            self._told = True

    def _show(self, logger: Logger, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        pictures = {name: self.run_dir / file for name, file in _PICTURES.items() if (self.run_dir / file).is_file()}
        if hasattr(logger, "log_scores"):
            panels = [callback for callback in trainer.callbacks if isinstance(callback, Panels)]
            examples = panels[0].examples if panels else []
            if self._best >= 0:  # no score as yet: every label was ignored
                logger.log_best(self._best)
            logger.log_scores("val", module.val_scores, module.label_space, step=step)
            logger.log_examples(examples, module.label_space, panel=pictures.get("val/panels"), step=step)
        elif isinstance(logger, TensorBoardLogger):
            for name, path in pictures.items():
                image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
                logger.experiment.add_image(name, image, step, dataformats="HWC")
