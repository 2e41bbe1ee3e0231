"""FiniteLoss: a loss that is not finite has its batch saved, then stops the run or skips the step."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim import Optimizer

from ..errors import UserError
from ..files.atomic import write_bytes
from ..reports import pictures
from ..schema.faults import checked
from ..schema.types import Count
from ..training.module import segmentation_module
from ..training.trainer_parts import at_log_step, callbacks_of, datamodule_of, gathered

__all__ = ["FiniteLoss"]


class _Place(NamedTuple):
    step: int
    epoch: int
    batch: int
    names: Sequence[str]


@dataclass
class _Found:
    place: _Place
    folder: Path


class FiniteLoss(Callback):
    """Checks every loss; all devices decide alike.

    The batch, read again by its place in the run, is saved to ``<folder>/epoch_E_batch_B_rank_R`` as ``batch.pt``
    (image, label, names), ``names.txt`` and ``overlay.png`` (image and label). Weights after a bad step never replace a
    good file. On CUDA a run that would stop checks every ``log_every_n_steps`` steps and before each checkpoint, so the
    host does not wait for the device; one that skips checks at each step.

    Args:
        folder: made when it is needed.
        action: ``"stop"``, or ``"skip"``: the step changes neither weights nor running statistics nor the optimiser.
        most: steps skipped in a row; one more stops the run.

    Raises:
        UserError: for another action; in training, where the loss is not finite.
    """

    @checked("callbacks.non_finite")
    def __init__(self, folder: str | Path, *, action: Literal["stop", "skip"] = "stop", most: Count = 10) -> None:
        self.folder = Path(folder)
        self.action = action
        self.most = most
        self._skipped = 0  # in a row
        self._seen: list[_Place] = []  # since the last check
        self._first_bad: Tensor | None = None  # index into those, -1 for none, on the device
        self._buffers: list[Tensor] = []  # before the step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.action == "skip" and not self._seen:
            self._buffers = [buffer.detach().clone() for buffer in segmentation_module(pl_module).net.buffers()]
        self._seen.append(_Place(trainer.global_step, trainer.current_epoch, batch_idx, batch["name"]))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._first_bad is None:
            self._first_bad = torch.tensor(-1, device=loss.device)
        bad = ~torch.isfinite(loss.detach()) & (self._first_bad < 0)
        self._first_bad = self._first_bad.where(~bad, len(self._seen) - 1)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.action == "stop":
            return
        found = self._check(trainer)
        if found is None:
            self._skipped = 0
            return
        self._skipped += 1
        if self._skipped > self.most:
            raise _error(trainer, found, f"after {self.most} skipped steps in a row ")
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # optimisers leave these alone, momentum and weight decay included
        for buffer, before in zip(segmentation_module(pl_module).net.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        if trainer.is_global_zero:
            print(f"step {found.place.step} skipped: {_what(found)}", flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = pl_module.device.type == "cpu" or at_log_step(trainer)
        if self.action == "stop" and due:
            self._stop_if_bad(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.action == "stop":
            self._stop_if_bad(trainer)

    def _stop_if_bad(self, trainer: Trainer) -> None:
        found = self._check(trainer)
        if found is not None:
            raise _error(trainer, found)

    def _check(self, trainer: Trainer) -> _Found | None:
        """The first bad batch since the last check, on whichever device; its files are written."""
        index = -1 if self._first_bad is None else int(self._first_bad)  # waits for the device
        seen, self._seen, self._first_bad = self._seen, [], None
        if not trainer.strategy.reduce_boolean_decision(index >= 0, all=False):
            return None
        own = None if index < 0 else self._keep(trainer, seen[index])
        return next(found for found in gathered(own) if found is not None)

    def _keep(self, trainer: Trainer, place: _Place) -> _Found:
        folder = self.folder / f"epoch_{place.epoch}_batch_{place.batch}_rank_{trainer.global_rank}"
        batch = datamodule_of(trainer).train_batch(place.epoch, place.batch)
        content = io.BytesIO()
        torch.save(batch, content)
        write_bytes(folder / "batch.pt", content.getvalue())
        write_bytes(folder / "names.txt", "".join(f"{name}\n" for name in batch["name"]).encode(errors="replace"))
        space = segmentation_module(trainer.lightning_module).label_space
        pictures.save_png(folder / "overlay.png", _picture(batch, space))
        return _Found(place, folder)


def _picture(batch: dict[str, Any], space: pictures.Classes) -> np.ndarray:
    rows = []
    for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
        image, label = image.permute(1, 2, 0).numpy(), label.numpy()
        rows.append(pictures.row({name: image, "label": pictures.overlay(image, label, space.palette)}))
    return pictures.stack_rows([*rows, pictures.legend(space.names, space.colors, rows[0].shape[1])])


def _what(found: _Found) -> str:
    place = found.place
    more = f" and {len(place.names) - 3} more" if len(place.names) > 3 else ""
    return (
        f"the loss is not finite at step {place.step} (epoch {place.epoch}, images {', '.join(place.names[:3])}{more});"
        f" the batch is in {found.folder}"
    )


def _error(trainer: Trainer, found: _Found, when: str = "") -> UserError:
    saved = [
        callback.best_model_path for callback in callbacks_of(trainer, ModelCheckpoint) if callback.best_model_path
    ]
    last_good = max(filter(os.path.isfile, saved), key=os.path.getmtime, default="none yet")
    return UserError(
        f"{when}{_what(found)}; last good checkpoint: {last_good}; lower optimizer.lr, set trainer.gradient_clip_val=1"
        " or trainer.precision=32-true, or leave such steps out: callbacks.non_finite.action=skip"
    )
