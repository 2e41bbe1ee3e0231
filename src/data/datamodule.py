"""SegmentationDataModule: the LightningDataModule around any data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, default_collate

from src.data.dataset import SegmentationDataset, Source
from src.data.label_space import LabelSpace
from src.data.sampling import ResumableLoader, ShuffledBatches, shard
from src.errors import UserError

__all__ = ["ConcatSource", "SegmentationDataModule", "available_cores", "collate"]


class ConcatSource:
    """Several sources of one label space in a row, for splits such as train + val."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.label_space = self.sources[0].label_space
        self._ends = np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, index: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[part], index - (int(self._ends[part - 1]) if part else 0)

    def name(self, index: int) -> str:
        source, local = self._locate(index)
        return source.name(local)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        source, local = self._locate(index)
        return source.read(local)


class SegmentationDataModule(pl.LightningDataModule):
    """Loaders for any data set.

    Args:
        dataset: called as ``dataset(split=name)``, gives a source.
        splits: stage (``train``, ``val``, ``test``) -> name or names of the splits it reads.
        train_transform: albumentations pipeline for training; evaluation sees images as they are.
        batch_size: images per device and step.
        eval_batch_size: images per device in evaluation; above 1 the images must have one size.
        num_workers: loading processes per device, or ``"auto"``.
        seed: of order and augmentation.

    Raises:
        UserError: if a split is smaller than a batch, or if images of different sizes meet in one batch.
    """

    def __init__(
        self,
        dataset: Callable[..., Source],
        splits: Mapping[str, str | Sequence[str]],
        *,
        train_transform: Any | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 1,
        num_workers: int | str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._make_source = dataset
        self.splits = {stage: [names] if isinstance(names, str) else names for stage, names in splits.items()}
        self.train_transform = train_transform
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = available_workers() if num_workers == "auto" else int(num_workers)
        self.seed = seed
        self._train_loader: ResumableLoader | None = None
        self._position: dict[str, int] | None = None

    def _source(self, stage: str) -> Source:
        names = self.splits.get(stage)
        if not names:
            raise UserError(f"data.splits has no entry for '{stage}'; add for example data.splits.{stage}=[{stage}]")
        sources = [self._make_source(split=name) for name in names]
        return sources[0] if len(sources) == 1 else ConcatSource(sources)

    @cached_property
    def train_dataset(self) -> SegmentationDataset:
        return SegmentationDataset(self._source("train"), self.train_transform)

    @cached_property
    def val_dataset(self) -> SegmentationDataset:
        return SegmentationDataset(self._source("val"))

    @cached_property
    def test_dataset(self) -> SegmentationDataset:
        return SegmentationDataset(self._source("test"))

    def sources(self, *stages: str) -> list[Source]:
        """The sources of these stages, one for each split they read."""
        whole = [getattr(self, f"{stage}_dataset").source for stage in stages]
        return [part for source in whole for part in getattr(source, "sources", [source])]

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
        batches, limit = len(self._train_batches()), self.trainer.limit_train_batches if self.trainer else 1.0
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    def train_dataloader(self) -> ResumableLoader:
        batches = self._train_batches()
        self._train_loader = ResumableLoader(
            self.train_dataset, batches, per_epoch=self.train_batches, **self._loading()
        )
        if self._position is not None:
            self._train_loader.load_state_dict(self._position)
        return self._train_loader

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._train_loader.state_dict()} if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning restores a loader's state itself, but only in mid-epoch; at an epoch's end the order would restart.
        self._position = state_dict.get("position")

    def _train_batches(self) -> ShuffledBatches:
        rank, world_size = self._ranks()
        count = len(self.train_dataset)
        batches = ShuffledBatches(count, self.batch_size, seed=self.seed, rank=rank, world_size=world_size)
        if not len(batches):
            raise UserError(
                f"the training split has {count} images, fewer than data.batch_size={self.batch_size} on {world_size}"
                f" device(s); set data.batch_size={max(1, count // world_size)} or less"
            )
        return batches

    def val_dataloader(self) -> DataLoader:
        return self._eval_loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader:
        return self._eval_loader(self.test_dataset)

    def _eval_loader(self, dataset: SegmentationDataset) -> DataLoader:
        indices = shard(len(dataset), *self._ranks())
        return DataLoader(dataset, batch_size=self.eval_batch_size, sampler=indices, **self._loading())

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": _single_threaded,
            "generator": torch.Generator(),  # its own, so that starting an epoch leaves the global state alone
        }


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Samples -> batch: ``image`` (B,3,H,W) uint8 stored channels last, ``label`` (B,H,W) uint8, ``name`` list.

    Raises:
        UserError: when sizes differ, naming two samples.
    """
    first = samples[0]
    for sample in samples[1:]:
        if sample["image"].shape != first["image"].shape:
            raise UserError(
                f"{first['name']} is {_size(first)} and {sample['name']} is {_size(sample)} (width x height),"
                " which cannot"
                " be one batch; set data.eval_batch_size=1, or for training transforms=street with a crop_size"
            )
    # The library's collate stacks straight into the memory that a worker shares with the training process.
    images = default_collate([sample["image"].permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    batch = {"image": images, "name": [sample["name"] for sample in samples]}
    if all("label" in sample for sample in samples):
        batch["label"] = default_collate([sample["label"] for sample in samples])
    return batch


def _size(sample: Mapping[str, Any]) -> str:
    return f"{sample['image'].shape[2]}x{sample['image'].shape[1]}"


def _single_threaded(worker: int) -> None:
    cv2.setNumThreads(0)


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_workers() -> int:
    """Loading processes for one device: all cores up to 8 beside a GPU; without one the net needs the cores itself."""
    cores = available_cores()
    return min(8, cores) if torch.cuda.is_available() else max(1, min(4, cores // 2))
