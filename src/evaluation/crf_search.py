"""Tuning the CRF on a few validation images, coarse to fine, as DeepLab v1 and v2 did on 100 (arXiv 1412.7062)."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ..data import SegmentationDataset
from ..errors import UserError, nearest
from ..files.atomic import write_bytes
from ..inference import DenseCRF
from ..metrics import ConfusionMatrix, Scores
from ..runtime.bars import tqdm
from ..training.module import SegmentationModule

__all__ = ["search", "tune"]

OPTIONS = ("gaussian_weight", "gaussian_std", "bilateral_weight", "bilateral_std_xy", "bilateral_std_rgb")
COLUMNS = (*OPTIONS, "iterations", "normalization", "compatibility", "clip", "exact", "images", "miou")
_AT_ONCE = 16  # settings that share one pass over the images

Images = Iterable[tuple[Tensor, Tensor, Tensor]]


def search(crf: DenseCRF, images: Images, table: Path, *, ignore_index: int = 255) -> list[tuple[DenseCRF, float]]:
    """Tries the values in ``crf.search``, then values half-way between the best and its neighbours.

    Method ``coordinate`` varies one option at a time around the best setting so far until no option helps; ``grid``
    tries every combination. Every pass over the images serves several settings, and only their confusion matrices are
    kept. Settings in ``table`` are not evaluated again, so an interrupted search continues from there.

    Args:
        crf: what to tune; its own setting is tried too.
        images: (rgb (B,3,H,W) uint8, scores (B,K,H,W), label (B,H,W) uint8) per step; iterated once for each pass.
        table: CSV with a row per setting, made or continued; it belongs to one net and one choice of images.
        ignore_index: label that is not scored.

    Returns:
        Settings and their mIoU, 0 to 1, best first.

    Raises:
        UserError: for options that cannot be searched, bad values, no image, or a table with other columns or of
            another number of images.
    """
    grid = _grid(crf)
    trials = _Trials(images, table, ignore_index)
    best = replace(crf, search=None)
    for _ in ("coarse", "fine"):  # the second time with the values between the best and its neighbours
        best = _round(best, grid, trials, method=crf.search_method)
        grid = {option: _around(getattr(best, option), values) for option, values in grid.items()}
    return trials.ranked()


def _grid(crf: DenseCRF) -> dict[str, list[float]]:
    """The values to try of each option, each of them checked."""
    if not isinstance(crf.search, dict) or not crf.search:
        raise UserError(
            f"inference.refine.search={crf.search} must give options their values, such as {{bilateral_weight: [3, 4]}}"
        )
    for option, values in crf.search.items():
        if option not in OPTIONS:
            raise UserError(
                f"inference.refine.search: '{option}' cannot be searched; use {', '.join(OPTIONS)}."
                f"{nearest(str(option), OPTIONS)}"
            )
        if not isinstance(values, list | tuple) or not values:
            raise UserError(f"inference.refine.search: {option}={values} must be a list of at least one number")
        for value in values:
            _with(crf, {option: value})  # which checks it
    return {option: sorted(map(float, values)) for option, values in crf.search.items()}


def _round(best: DenseCRF, grid: dict[str, list[float]], trials: _Trials, *, method: str) -> DenseCRF:
    if method == "grid":
        every = itertools.product(*grid.values())
        return trials.best_of([best, *(_with(best, dict(zip(grid, values, strict=True))) for values in every)])
    while True:  # ends, since a tie keeps the present best and there are finitely many settings
        start = best
        for option, values in grid.items():
            best = trials.best_of([best, *(_with(best, {option: value}) for value in values)])
        if best == start:
            return best


def _around(best: float, values: Sequence[float]) -> list[float]:
    """``best`` and the middles of the gaps on both sides of it; ``values`` are sorted."""
    below, above = [v for v in values if v < best], [v for v in values if v > best]
    around = [best]
    if below:
        around.insert(0, (below[-1] + best) / 2)
    if above:
        around.append((above[0] + best) / 2)
    return around


def _with(crf: DenseCRF, options: dict[str, Any]) -> DenseCRF:
    return replace(crf, **options)


class _Trials:
    """Scores of settings, as many as have been asked for."""

    def __init__(self, images: Images, table: Path, ignore_index: int) -> None:
        self.images, self.table, self.ignore_index = images, table, ignore_index
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        self.settings: dict[tuple[str, ...], DenseCRF] = {}
        if table.exists():
            self.rows = _rows(table)

    def best_of(self, settings: Sequence[DenseCRF]) -> DenseCRF:
        """The first setting of the highest mIoU."""
        keys = [_key(setting) for setting in settings]
        self.settings |= dict(zip(keys, settings, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self.rows]
        for start in range(0, len(new), _AT_ONCE):  # as one pass of the net is dearer than many of the CRF
            self._evaluate(new[start : start + _AT_ONCE])
        return self.settings[max(keys, key=self._miou)]

    def ranked(self) -> list[tuple[DenseCRF, float]]:
        keys = sorted(self.settings, key=self._miou, reverse=True)
        return [(self.settings[key], self._miou(key)) for key in keys]

    def _miou(self, key: tuple[str, ...]) -> float:
        return float(self.rows[key]["miou"])

    def _evaluate(self, keys: Sequence[tuple[str, ...]]) -> None:
        """One pass over the images."""
        counts: list[ConfusionMatrix] = []
        seen = 0
        for rgb, scores, label in tqdm(self.images, desc=f"CRF search, {len(keys)} settings", disable=None):
            # The number of classes is known from the first scores on.
            counts = counts or [ConfusionMatrix(scores.shape[1], self.ignore_index) for _ in keys]
            for key, count in zip(keys, counts, strict=True):
                count.update(self.settings[key](rgb, scores).argmax(1).byte(), label.to(scores.device))
            seen += len(rgb)
        if not seen:
            raise UserError("inference.refine.search found no image to try its values on; choose a split that has some")
        if any(row["images"] != str(seen) for row in self.rows.values()):
            raise UserError(f"{self.table} was made with another number of images than {seen}; move it away")
        for key, count in zip(keys, counts, strict=True):
            found = {"images": str(seen), "miou": f"{Scores(count.compute()).miou:.6f}"}
            self.rows[key] = dict(zip(COLUMNS, key, strict=False)) | found
        self._write()  # after each pass, so that an interrupted search loses one pass at most

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.rows.values())
        write_bytes(self.table, text.getvalue().encode())


def _rows(table: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of an interrupted search, by their settings."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError("its columns are others")
            rows = list(reader)
        if not all(None not in row and 0 <= float(row["miou"]) <= 1 and row["images"].isdecimal() for row in rows):
            raise ValueError("a row is broken")
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{table} is no table of a CRF search ({error}); move it away") from error
    return {tuple(row[name] for name in COLUMNS[:-2]): row for row in rows}


def _key(setting: DenseCRF) -> tuple[str, ...]:
    """What tells settings apart, as the table writes it."""
    options = asdict(setting)
    return tuple(str(float(options[name])) if name in OPTIONS else str(options[name]) for name in COLUMNS[:-2])


def tune(
    module: SegmentationModule, dataset: SegmentationDataset, trainer: pl.Trainer, *, images: int, table: Path
) -> tuple[DenseCRF, float]:
    """The best setting that ``module.inference.refine.search`` leads to, and its mIoU on these images.

    Args:
        module: its ``inference.refine`` becomes the best setting.
        dataset: with labels.
        trainer: on whose device it runs.
        images: how many, spread evenly over ``dataset``.
        table: CSV of all settings and their mIoU; an interrupted search continues from it.

    Raises:
        UserError: on several devices, and as ``search``.
    """
    if trainer.world_size > 1:
        raise UserError(f"inference.refine.search runs on one device, not {trainer.world_size}; set trainer.devices=1")
    table.parent.mkdir(parents=True, exist_ok=True)
    crf, module.inference.refine = cast(DenseCRF, module.inference.refine), None  # scored without, then refined
    module.to(trainer.strategy.root_device)
    with torch.inference_mode(), trainer.precision_plugin.test_step_context():
        (best, miou), *_ = search(crf, _Scored(module, dataset, images), table)
    module.inference.refine = best = replace(best, search=None)
    return best, miou


class _Scored:
    """Image, scores and label one by one, computed in each pass: scores of all images would not fit into memory."""

    def __init__(self, module: SegmentationModule, dataset: SegmentationDataset, images: int) -> None:
        self.module, self.dataset = module, dataset
        self.indices = np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int).tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for sample in map(self.dataset.__getitem__, self.indices):
            if "label" not in sample:
                raise UserError(f"{sample['name']}: has no label to search by; choose a labelled split")
            rgb = sample["image"][None].to(self.module.device)
            yield rgb, self.module.scores(rgb), sample["label"][None]
