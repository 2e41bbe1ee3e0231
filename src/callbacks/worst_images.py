"""Pictures of the images with the lowest IoU, of each class or of all: image, truth, prediction, errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Trainer

from ..errors import noted
from ..files.atomic import fitting_name
from ..metrics.per_image import PerImage, unique_names
from ..reports import pictures
from ..runtime.bars import tqdm
from ..training.module import SegmentationModule
from .panels import draw_panel

__all__ = ["draw_lowest", "draw_worst"]

_SHORT = 8  # images that need no progress bar


def draw_worst(trainer: Trainer, module: SegmentationModule, images: PerImage, count: int, folder: Path) -> None:
    """Draws ``<folder>/<class>/<rank>_iou_<percent>_<image>.png`` for the ``count`` lowest IoU of each class.

    Images are read and predicted again, one at a time and once for all classes that they are drawn for; devices share
    them. In an image without the class every pixel predicted as that class is wrong: its IoU is 0.

    Args:
        trainer: after a test of ``module``.
        module: has ``predict_label`` and ``label_space``.
        images: counts of the test.
        count: pictures for each class, fewer where it occurs in fewer images.
        folder: made if it is missing; it should be empty.
    """
    wanted: dict[str, list[tuple[int, int, float]]] = {}  # image -> class, rank, IoU
    for train_id, lowest in images.lowest(count).items():
        for rank, (index, iou) in enumerate(lowest, start=1):
            wanted.setdefault(images.names[index], []).append((train_id, rank, iou))
    with noted(folder):
        for sample, places in _samples(trainer, wanted):
            with trainer.precision_plugin.test_step_context():
                row, _ = draw_panel(sample, module)
            _save(row, sample["name"], places, module.label_space, folder)


def draw_lowest(trainer: Trainer, module: SegmentationModule, images: PerImage, count: int, folder: Path) -> None:
    """Draws ``<folder>/<rank>_miou_<percent>_<image>.png`` for the ``count`` images of lowest mean IoU.

    The mean of an image is over the classes in it or its prediction. Devices share the work, as in ``draw_worst``.

    Args:
        trainer: after a test of ``module``.
        module: has ``predict_label`` and ``label_space``.
        images: counts of the test.
        count: pictures, fewer where fewer images were tested.
        folder: made if it is missing; pictures of an earlier test there are removed.
    """
    if trainer.is_global_zero:
        for old in folder.glob("*_miou_*.png"):
            with contextlib.suppress(OSError):
                old.unlink()
    trainer.strategy.barrier()
    wanted = {images.names[index]: (rank, miou) for rank, (index, miou) in enumerate(images.poorest(count), start=1)}
    with noted(folder):
        for sample, (rank, miou) in _samples(trainer, wanted):
            with trainer.precision_plugin.test_step_context():
                row, _ = draw_panel(sample, module)
            pictures.save_png(
                folder / fitting_name(f"{rank}_miou_{100 * miou:.1f}_", f"{_plain(sample['name'])}.png"), row
            )


def _save(
    row: np.ndarray, name: str, places: list[tuple[int, int, float]], space: pictures.Classes, folder: Path
) -> None:
    legend = pictures.legend(space.names, space.colors, row.shape[1])
    for train_id, rank, iou in places:
        title = pictures.caption(f"{space.names[train_id]}   IoU {100 * iou:.1f} %   rank {rank}", row.shape[1])
        file = fitting_name(f"{rank}_iou_{100 * iou:.1f}_", f"{_plain(name)}.png")
        pictures.save_png(folder / _folder_of(space.names, train_id) / file, pictures.stack_rows([title, row, legend]))


def _samples(trainer: Trainer, wanted: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """This device's share of the test images that are wanted, each with what it is wanted for."""
    loader = trainer.test_dataloaders
    if loader is None:
        return
    dataset = loader.dataset
    names = unique_names(dataset.source.name(index) for index in range(len(dataset)))
    found = [(index, wanted[name]) for index, name in enumerate(names) if name in wanted]
    mine = found[trainer.global_rank :: trainer.world_size]
    silent = None if trainer.is_global_zero and len(mine) > _SHORT else True
    for index, what in tqdm(mine, desc="worst images", unit="image", disable=silent):
        yield dataset[index], what


def _folder_of(names: Sequence[str], train_id: int) -> str:
    """A folder's name for a class, not that of another class, of this folder or of the one above."""
    plain = [_plain(name).lstrip(".") or "_" for name in names]
    alike = [name.lower() for name in plain].count(plain[train_id].lower())  # on some disks case does not count
    return fitting_name("" if alike == 1 else f"{train_id}_", plain[train_id])


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
