"""The images in which a class comes out worst, as pictures: image, truth, prediction, errors."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from tqdm import tqdm

from src import viz
from src.metrics.per_image import PerImage, unique_names

__all__ = ["draw_worst"]

_NAME = 120  # characters of an image's name in that of its picture


def draw_worst(trainer: Trainer, module: LightningModule, images: PerImage, count: int, folder: Path) -> None:
    """Draws ``<folder>/<class>/<rank>_iou_<percent>_<image>.png`` for the ``count`` lowest IoU of each class.

    Images are read and predicted anew, one at a time and once for all classes that they are worst in; devices share
    them. Of an image without the class every pixel that was predicted as it is wrong: its IoU is 0.

    Args:
        trainer: after a test of ``module``.
        module: has ``predict_label`` and ``label_space``.
        images: counts of the test.
        count: pictures for each class, fewer where it occurs in fewer images.
        folder: made if it is missing; it should be empty.
    """
    dataset = trainer.test_dataloaders.dataset
    wanted: dict[str, list[tuple[int, int, float]]] = {}  # image -> class, rank, IoU
    for train_id, lowest in images.lowest(count).items():
        for rank, (index, iou) in enumerate(lowest, start=1):
            wanted.setdefault(images.names[index], []).append((train_id, rank, iou))
    names = unique_names(dataset.source.name(index) for index in range(len(dataset)))
    found = [(index, wanted[name]) for index, name in enumerate(names) if name in wanted]
    mine = found[trainer.global_rank :: trainer.world_size]
    silent = None if trainer.is_global_zero else True
    for index, places in tqdm(mine, desc="worst images", unit="image", disable=silent):
        _draw(dataset[index], places, trainer, module, folder)


def _draw(
    sample: dict, places: list[tuple[int, int, float]], trainer: Trainer, module: LightningModule, folder: Path
) -> None:
    space, name = module.label_space, sample["name"]
    with trainer.precision_plugin.test_step_context(), torch.inference_mode():
        prediction = module.predict_label(sample["image"][None].to(module.device))[0].cpu().numpy()
    row = viz.panel(sample["image"].permute(1, 2, 0).numpy(), sample["label"].numpy(), prediction, space, name=name)
    legend = viz.legend(space.names, space.colors, row.shape[1])
    for train_id, rank, iou in places:
        title = viz.caption(f"{space.names[train_id]}   IoU {100 * iou:.1f} %   rank {rank}", row.shape[1])
        file = f"{rank}_iou_{100 * iou:.1f}_{_plain(name)[-_NAME:]}.png"
        viz.save_png(folder / _plain(space.names[train_id]) / file, viz.stack_rows([title, row, legend]))


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
