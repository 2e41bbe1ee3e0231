"""SegmentationDataModule: the LightningDataModule around any data set."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from ..errors import UserError
from ..runtime.signals import STOPPING
from .dataset import SegmentationDataset
from .epoch_batches import EpochBatches, ResumableLoader, check_same, collate, shard
from .label_space import LabelSpace
from .sampling.samplers import Draw, Shuffle
from .source import ConcatSource, Source
from .workers import available_workers

__all__ = ["SegmentationDataModule"]


class SegmentationDataModule(pl.LightningDataModule):
    """Loaders for any data set.

    Args:
        dataset: called as ``dataset(split=name)``, gives a source.
        splits: stage (``train``, ``val``, ``test``) -> name or names of the splits it reads.
        train_transform: albumentations pipeline for training.
        eval_transform: one for validation and test; ``None`` leaves images as they are.
        sampler: what an epoch of training holds; its ``extra`` names splits of a second pool. ``None``: ``Shuffle()``.
        batch_size: images per device and step.
        eval_batch_size: images per device in evaluation; above 1 the images must have one size.
        num_workers: loading processes per device, or ``"auto"``.
        seed: of order and augmentation.

    Raises:
        UserError: if a split is smaller than a batch, or in both pools, or if images of different sizes meet in one
            batch.
    """

    def __init__(
        self,
        dataset: Callable[..., Source],
        splits: Mapping[str, str | Sequence[str]],
        *,
        train_transform: Any | None = None,
        eval_transform: Any | None = None,
        sampler: Shuffle | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 1,
        num_workers: int | str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._make_source = dataset
        self.splits = {stage: [names] if isinstance(names, str) else names for stage, names in splits.items()}
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.sampler = sampler or Shuffle()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = available_workers() if num_workers == "auto" else int(num_workers)
        self.seed = seed
        self._train_loader: ResumableLoader | None = None
        self._position: dict[str, int] | None = None

    def _sources(self, stage: str) -> list[Source]:
        names = self.splits.get(stage)
        if not names:
            raise UserError(f"data.splits has no entry for '{stage}'; add for example data.splits.{stage}=[{stage}]")
        return [self._make_source(split=name) for name in names]

    @cached_property
    def _pools(self) -> tuple[Source, int]:
        """What is trained on, and how many of its first samples are the pool whose length an epoch has."""
        first = self._sources("train")
        twice = [name for name in self.sampler.extra if name in self.splits["train"]]
        if twice:
            raise UserError(
                f"sampler.extra: '{twice[0]}' is in data.splits.train={self.splits['train']}, too, so its images would"
                " be in both pools; remove it from one of them"
            )
        second = [self._make_source(split=name) for name in self.sampler.extra]
        return _joined([*first, *second]), sum(map(len, first))

    @property
    def pool_sizes(self) -> tuple[int, int]:
        """Training samples of the first pool, whose number an epoch has, and of the sampler's second."""
        source, first = self._pools
        return first, len(source) - first

    @cached_property
    def train_dataset(self) -> SegmentationDataset:
        """Both pools of the sampler, one after the other."""
        return SegmentationDataset(self._pools[0], self.train_transform)

    @cached_property
    def val_dataset(self) -> SegmentationDataset:
        return SegmentationDataset(_joined(self._sources("val")), self.eval_transform)

    @cached_property
    def test_dataset(self) -> SegmentationDataset:
        return SegmentationDataset(_joined(self._sources("test")), self.eval_transform)

    def sources(self, *stages: str) -> list[Source]:
        """The sources of these stages, one for each split they read."""
        datasets = [self._dataset(stage) for stage in stages]
        return [part for dataset in datasets for part in dataset.source.parts]

    def _dataset(self, stage: str) -> SegmentationDataset:
        if stage == "train":
            return self.train_dataset
        return self.val_dataset if stage == "val" else self.test_dataset

    @property
    def label_space(self) -> LabelSpace:
        """That of whichever split was read already, or of the training split."""
        for stage in ("val_dataset", "test_dataset"):
            if stage in self.__dict__:
                return self.__dict__[stage].source.label_space
        return self.train_dataset.source.label_space

    @property
    def train_batches(self) -> int:
        """Batches of one epoch on one device, as far as the trainer does not limit them."""
        batches, limit = self.whole_batches, self.trainer.limit_train_batches if self.trainer else 1.0
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    @property
    def whole_batches(self) -> int:
        """Batches of one epoch on one device, whatever the trainer makes of them."""
        count, world_size = self._pools[1], self._ranks()[1]
        if count < self.batch_size * world_size:
            raise UserError(
                f"the training split has {count} images, fewer than data.batch_size={self.batch_size} on {world_size}"
                f" device(s); set data.batch_size={max(1, count // world_size)} or less"
            )
        return count // (self.batch_size * world_size)

    @cached_property
    def _draw(self) -> Draw:
        return self.sampler.draws(*self._pools)

    def prepare_data(self) -> None:
        """Lets the sampler look through the labels; Lightning has one process of a node do so while others wait."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            _ = self._draw

    def train_dataloader(self) -> ResumableLoader:
        per_epoch, batches = self.train_batches, self._epoch_batches()
        check_same(self._position)
        self._train_loader = ResumableLoader(self.train_dataset, batches, per_epoch=per_epoch, **self._loading())
        if self._position is not None:
            self._train_loader.load_state_dict(self._position)
        return self._train_loader

    def _epoch_batches(self) -> EpochBatches:
        rank, world_size = self._ranks()
        return EpochBatches(
            self._draw, self._pools[1], self.batch_size, seed=self.seed, rank=rank, world_size=world_size
        )

    def train_batch(self, epoch: int, batch: int) -> dict[str, Any]:
        """One batch of this rank's training, read again."""
        (keys,) = self._epoch_batches().of(epoch, [batch])
        return collate([self.train_dataset[key] for key in keys])

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._train_loader.state_dict()} if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning restores a loader's state itself, but only in mid-epoch; at an epoch's end the order would restart.
        self._position = state_dict.get("position")

    def val_dataloader(self) -> DataLoader:
        return self._eval_loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader:
        return self._eval_loader(self.test_dataset)

    def _eval_loader(self, dataset: SegmentationDataset) -> DataLoader:
        rank, world_size = self._ranks()
        if len(dataset) < world_size:
            raise UserError(
                f"a split to be scored has {len(dataset)} images, but each of {world_size} devices needs one; use"
                f" trainer.devices={len(dataset)} or fewer, or more images (data.splits)"
            )
        indices = shard(len(dataset), rank, world_size)
        return DataLoader(dataset, batch_size=self.eval_batch_size, sampler=indices, **self._loading())

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": _start_worker,
            "generator": torch.Generator(),  # its own, so that starting an epoch leaves the global state alone
        }


def _joined(sources: Sequence[Source]) -> Source:
    return sources[0] if len(sources) == 1 else ConcatSource(sources)


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)
    # A scheduler signals all processes of a job, but the last step before the end still needs its batch.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_loading() -> None:
    """Python ends its processes by SIGTERM, which those that load data ignore, and would wait for them for ever."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
