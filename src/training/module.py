"""SegmentationModule: the LightningModule around any net."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..checkpoints.io import METADATA_KEY
from ..data import LabelSpace, SegmentationDataModule
from ..errors import UserError
from ..inference import Inference
from ..losses import Supervision
from ..metrics import ConfusionMatrix, Scores, SharedMeans
from ..models.normalize import Normalize
from .trainer_parts import datamodule_of

__all__ = ["SegmentationModule", "segmentation_module"]


class SegmentationModule(pl.LightningModule):
    """Steps, metrics and optimisers around a net that knows only tensors.

    Args:
        net: ``forward(image)`` -> dict with ``logits`` (B,K,H,W) and, in training, ``aux_<name>``.
        label_space: the classes.
        supervision: net outputs and label -> total loss and its parts.
        inference: ``(net, image) -> scores`` for validation, test and prediction.
        optimizer: net and images per step -> torch optimiser.
        schedule: steps of the run and of an epoch -> factor by step.
        mean, std: RGB statistics, 0..1, saved with the weights.
        channel_order: in which the net takes the colours, ``"rgb"`` or ``"bgr"``.
        seed: of all randomness in a training step, together with epoch, batch and rank.
        channels_last: memory format of net and images.
        metadata: plain containers saved beside the weights.
    """

    val_scores: Scores
    test_scores: Scores

    def __init__(
        self,
        net: nn.Module,
        *,
        label_space: LabelSpace,
        supervision: Supervision,
        inference: Inference,
        optimizer: Callable[[nn.Module, int], Optimizer],
        schedule: Callable[[int, int], Callable[[int], float]],
        mean: Sequence[float],
        std: Sequence[float],
        channel_order: str = "rgb",
        seed: int = 0,
        channels_last: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=memory_format)  # pyrefly: ignore[no-matching-overload]  # torch's hints lack it
        self.normalize = Normalize(mean, std, channel_order=channel_order, memory_format=memory_format)
        self.label_space = label_space
        self.supervision = supervision
        self.inference = inference
        self.seed = seed
        self.metadata = dict(metadata or {})
        self.val_confusion = ConfusionMatrix(label_space.num_classes)
        self.test_confusion = ConfusionMatrix(label_space.num_classes)
        self._shared_means = SharedMeans()
        self._make_optimizer = optimizer
        self._make_schedule = schedule

    def scores(self, image: Tensor) -> Tensor:
        """(B,3,H,W) uint8 RGB -> (B,K,H,W) float scores whose softmax is the prediction."""
        return self.inference(self.net, self.normalize(image), image)

    @torch.no_grad()
    def predict_label(self, image: Tensor) -> Tensor:
        """(B,3,H,W) uint8 RGB -> (B,H,W) uint8 train ids."""
        return self.inference.label(self.net, self.normalize(image), image)

    @torch.no_grad()
    def label_and_confidence(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B,3,H,W) uint8 RGB -> (B,H,W) uint8 train ids and (B,H,W) uint8 floor(255 p) of their probability p."""
        return self.inference.label_and_confidence(self.net, self.normalize(image), image)

    # --- training ---------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        # Dropout and the like depend on nothing but the place in the run: a resumed run needs no saved random state.
        place = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        loss, parts = self.supervision(self.net(self.normalize(batch["image"])), batch["label"])
        aux = {f"train/{name}": part for name, part in parts.items() if name != "logits"}
        logged = {f"train/{name}": value for name, value in self.supervision.logged().items()}
        values = {"train/loss": loss, **aux, **logged}
        if self.trainer.world_size > 1:
            values = self._shared_means(values, renew=batch_idx == 0)
        self.log_dict({name: value.detach().float() for name, value in values.items()}, batch_size=len(batch["name"]))
        self._log_learning_rates()
        return loss

    def _log_learning_rates(self) -> None:
        for group in cast(Optimizer, self.optimizers()).param_groups:
            if not group["name"].endswith("_no_decay"):
                self.log(f"lr/{group['name']}", group["lr"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer, factor = self.optimization(self.trainer, datamodule_of(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def optimization(
        self, trainer: pl.Trainer, datamodule: SegmentationDataModule
    ) -> tuple[Optimizer, Callable[[int], float]]:
        """Optimiser, and factor on its rates by step, for a fit of ``trainer`` on ``datamodule``.

        Raises:
            UserError: for options that they cannot take.
        """
        images = datamodule.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        return self._make_optimizer(self.net, images), self._make_schedule(*self._steps(trainer, datamodule))

    def _steps(self, trainer: pl.Trainer, datamodule: SegmentationDataModule) -> tuple[int, int]:
        """Optimiser steps of the whole run, and of an epoch.

        Lightning's own estimate would set up the loader before a resumed position is restored to it.
        """
        epoch = max(1, math.ceil(datamodule.train_batches / trainer.accumulate_grad_batches))
        epochs = trainer.max_epochs
        if epochs is None or epochs == -1:
            if trainer.max_steps < 1:
                raise UserError("the run has no end: set trainer.max_steps or trainer.max_epochs to 1 or more")
            return trainer.max_steps, epoch
        steps = epochs * epoch
        return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps), epoch

    # --- evaluation -------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        truth = self._truth(batch)
        self.val_confusion.update(self.predict_label(batch["image"]), truth)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Both (B,H,W) uint8, for callbacks that measure more: train ids and floor(255 p) of their probability p."""
        truth = self._truth(batch)
        prediction, confidence = self.label_and_confidence(batch["image"])
        self.test_confusion.update(prediction, truth)
        return {"prediction": prediction, "confidence": confidence}

    def _truth(self, batch: Mapping[str, Any]) -> Tensor:
        if "label" not in batch:
            raise UserError(
                f"{batch['name'][0]}: has no label to score against; evaluate a labelled split, or use src.predict"
            )
        return batch["label"]

    def on_validation_epoch_end(self) -> None:
        self.val_scores = self._finish("val", self.val_confusion)

    def on_test_epoch_end(self) -> None:
        self.test_scores = self._finish("test", self.test_confusion)

    def _finish(self, stage: str, confusion: ConfusionMatrix) -> Scores:
        scores = Scores(confusion.compute().cpu())
        confusion.reset()
        self.log_dict({f"{stage}/miou": scores.miou, f"{stage}/pixel_accuracy": scores.pixel_accuracy})
        present = (i for i in range(self.label_space.num_classes) if i not in scores.absent)
        self.log_dict({f"{stage}/iou/{self.label_space.names[i]}": float(scores.iou[i]) for i in present})
        return scores

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[METADATA_KEY] = {**self.metadata, "label_space": self.label_space.to_dict()}
        if ids := [logger.version for logger in self.loggers if isinstance(logger, WandbLogger)]:
            checkpoint[METADATA_KEY]["wandb_id"] = str(ids[0])


def segmentation_module(module: pl.LightningModule) -> SegmentationModule:
    """``module`` by its own type, for what Lightning hands over as any module."""
    return cast(SegmentationModule, module)
