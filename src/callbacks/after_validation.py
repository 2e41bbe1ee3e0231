"""What several callbacks share: they write down each validation of a fit."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer

from ..training.module import SegmentationModule, segmentation_module

__all__ = ["AfterValidation", "writes_now"]


def writes_now(trainer: Trainer) -> bool:
    """Whether this is the device that writes files, in a validation of a fit that is no sanity check."""
    return trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking


class AfterValidation(Callback):
    """Calls ``after_validation`` on the first device, after each validation of a fit."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writes_now(trainer):
            self.after_validation(trainer, segmentation_module(pl_module))

    def after_validation(self, trainer: Trainer, module: SegmentationModule) -> None:
        """Writes what this callback is for; ``module.val_scores`` are those of the validation."""
        raise NotImplementedError
