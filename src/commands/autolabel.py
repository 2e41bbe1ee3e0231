"""Label images with a trained net, to train another: ``python -m src.autolabel ckpt=PATH source=FOLDER out=FOLDER``.

Labels are written without a threshold, and beside each the probability of its pixels (arXiv 2005.10821, section 4.3);
``data.min_confidence`` applies the threshold when they are loaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from src.build import from_checkpoint
from src.cli.scored_size import say_difference
from src.data.decoding import read_image
from src.data.folder.pseudo_labels import KeptLabels
from src.data.sets.cityscapes import TRAIN_ID_TO_RAW_ID
from src.errors import UserError
from src.files.atomic import fitting_name, locked, sha256
from src.files.images import AHEAD, choose_device, find_images, left_out, output_names, read_ahead
from src.files.output_paths import check_inside
from src.prediction.label_folder import LabelFolder, confidence_name
from src.reports import console
from src.training.module import SegmentationModule


def autolabel(cfg: DictConfig) -> int:
    """Labels every image that is not labelled yet; returns how many were. Broken files are listed at the end."""
    console.quiet()
    base, images = find_images(cfg.source)
    names = output_names(base, images)
    _check_places(base, Path(cfg.out), names.values())
    device = choose_device(cfg.device)
    module = from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    ).to(device)
    say_difference(cfg)
    space = module.label_space
    values = _file_values(cfg.ids, space.num_classes)
    teacher = _teacher(cfg, space.names) | {"source": str(base.resolve())}
    with locked(Path(cfg.out), "writing to it"):
        folder = LabelFolder(Path(cfg.out), values, teacher=teacher, notes={"ckpt": str(cfg.ckpt)})
        folder.check(names)
        if cfg.ids == "train":
            lines = (f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(space.names, space.colors, strict=True))
            folder.write_text("classes.txt", "".join(lines))
        survival = KeptLabels(space.names)
        labelled, broken = _label_all(module, names, folder, survival)
        folder.write_text("survival.csv", survival.csv())
    before = len(images) - labelled - len(broken)
    console.say(f"{survival.table()}\n{labelled} of {len(images)} images labelled, {before} were before: {cfg.out}")
    if broken:
        raise UserError(left_out(broken))
    return labelled


def _label_all(
    module: SegmentationModule, names: dict[Path, Path], folder: LabelFolder, survival: KeptLabels
) -> tuple[int, list[str]]:
    """How many images were labelled, and a line for each that could not be."""

    def read(path: Path) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        return folder.finished(path, names[path]) or read_image(path)

    labelled, broken, pending = 0, [], deque()
    with ThreadPoolExecutor(2) as reader, ThreadPoolExecutor(2) as writer, torch.inference_mode():
        for path, found in tqdm(read_ahead(reader, read, list(names)), total=len(names), unit="image", disable=None):
            if isinstance(found, tuple):
                survival.add(*found)
                continue
            if isinstance(found, UserError):
                broken.append(str(found))
                continue
            batch = torch.from_numpy(found).to(module.device).permute(2, 0, 1)[None]
            try:
                label, confidence = (each[0].cpu().numpy() for each in module.label_and_confidence(batch))
            except UserError as error:
                broken.append(f"{path}: {error}")
                continue
            pending.append(writer.submit(folder.write_pair, names[path], label, confidence))
            survival.add(label, confidence)
            labelled += 1
            if len(pending) > AHEAD:
                pending.popleft().result()
        for job in pending:
            job.result()
    return labelled, broken


def _teacher(cfg: DictConfig, names: Iterable[str]) -> dict[str, Any]:
    """Everything that labels depend on besides the image."""
    chosen = {
        "inference": cfg.inference,
        "output_stride": cfg.output_stride,
        "model.scales": cfg.model.get("scales") or {},
        "ids": cfg.ids,
    }
    plain = {key: OmegaConf.to_container(OmegaConf.create({"it": each}))["it"] for key, each in chosen.items()}
    return {"ckpt": sha256(cfg.ckpt), **plain, "classes": list(names)}


def _check_places(base: Path, out: Path, names: Iterable[Path]) -> None:
    source, target = base.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise UserError(
            f"out={out}: labels would lie among the images of source={base}; choose a folder apart from it, such as"
            " source=pool/images out=pool/masks"
        )
    names = set(names)
    twice = next((name for name in sorted(names) if confidence_name(name) in names), None)
    if twice is not None:
        raise UserError(
            f"source={base}: the label of {confidence_name(twice).stem} would overwrite the confidence of"
            f" {twice.stem}; rename one of the images"
        )
    long = next(
        (name for name in names if confidence_name(name).name != fitting_name("", confidence_name(name).name)), None
    )
    if long is not None:
        raise UserError(
            f"source={base}: {long.name} is too long a name for its label and confidence, whose names are at most 255"
            " bytes; shorten it"
        )
    check_inside(out, {out / name.parent for name in names})


def _file_values(ids: Any, num_classes: int) -> list[int]:
    """Class -> value in the files."""
    if ids == "train":
        return list(range(num_classes))
    values = TRAIN_ID_TO_RAW_ID if ids == "cityscapes" else ids if OmegaConf.is_list(ids) else []
    values = [value for value in values if isinstance(value, int) and 0 <= value < 255]
    if not len(values) == len(set(values)) == num_classes:
        raise UserError(
            f"ids={ids} does not fit the net's {num_classes} classes; use train, cityscapes (19 classes), or a list of"
            f" {num_classes} different values in 0..254"
        )
    return values
