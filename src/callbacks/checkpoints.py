"""The checkpoints of a run: the best weights, in a folder that may be moved, and the newest state to resume from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from ..schema.types import Count

__all__ = ["LastCheckpoint", "MovableCheckpoint", "step_is_whole"]


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint``, for a run that is resumed in a folder that was moved or copied.

    There Lightning forgets the best score, overwrites better weights by the next, and looks for them in the old folder.
    Here only a score whose file is gone is forgotten.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else ""

        best = here(state_dict["best_model_path"])
        if Path(best).is_file():
            moved = {name: here(state_dict[name]) for name in ("kth_best_model_path", "last_model_path")}
            kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
            moved |= {"best_model_path": best, "best_k_models": kept, "dirpath": self.dirpath}
            super().load_state_dict(state_dict | moved)


class LastCheckpoint(MovableCheckpoint):
    """Writes ``last.ckpt`` every few epochs, or every few steps and at the end of each epoch; and when training ends.

    Lightning does not validate again when it resumes from a state that was saved between a step and the validation
    behind it. Such a save waits until the validation is over, so a resumed run misses none.

    Args:
        dirpath: folder of the checkpoints.
        every_n_epochs: epochs from one save to the next; ``None`` together with ``every_n_train_steps``.
        every_n_train_steps: optimiser steps from one save to the next.
    """

    def __init__(
        self, dirpath: str, *, every_n_epochs: Count | None = 1, every_n_train_steps: Count | None = None
    ) -> None:
        super().__init__(
            dirpath,
            filename="last",
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._waits = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_is_whole(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif self._every_n_train_steps and not trainer.fit_loop.epoch_loop._should_accumulate():
            self._waits = trainer.global_step % self._every_n_train_steps == 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits and not trainer.sanity_checking and not trainer.fit_loop.epoch_loop._is_training_done:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._every_n_train_steps or _training_ends(trainer):
            self._save(trainer)
        super().on_train_epoch_end(trainer, pl_module)

    def _save(self, trainer: Trainer) -> None:
        self._waits = False
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


def step_is_whole(trainer: Trainer) -> bool:
    """Whether a run resumes exactly from a state saved after this batch: nothing of its step is still to come."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    validates = fetcher is not None and loop._should_check_val_fx(fetcher)
    return not (loop._should_accumulate() or validates or loop._is_training_done)


def _training_ends(trainer: Trainer) -> bool:
    """Whether the epoch that ends is the last."""
    steps = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
    limit = trainer.max_epochs
    epochs = limit is not None and limit != -1 and trainer.current_epoch + 1 >= limit
    return steps or epochs or trainer.should_stop
