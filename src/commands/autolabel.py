"""Label images with a trained net, to train another: ``python -m src.autolabel ckpt=PATH source=FOLDER out=FOLDER``.

Labels are written without a threshold, and beside each the probability of its pixels (arXiv 2005.10821, section 4.3);
``data.min_confidence`` applies the threshold when they are loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..data.folder.pseudo_labels import KeptLabels
from ..data.sets.cityscapes import TRAIN_ID_TO_RAW_ID
from ..errors import UserError
from ..files.atomic import locked
from ..files.images import find_images, left_out, output_names
from ..prediction.label_folder import LabelFolder, check_places, label_images
from ..reports import console
from ..runtime.environment import choose_device
from .checkpoint import as_label, load, made_with


def autolabel(cfg: DictConfig) -> int:
    """Labels every image that is not labelled yet; returns how many were.

    Raises:
        UserError: at the end, listing the files that could not be labelled.
    """
    console.quiet()
    base, images = find_images(cfg.source)
    out, names = Path(cfg.out), output_names(base, images)
    check_places(base, out, names.values())
    module = load(cfg, device=choose_device(cfg.device))
    space = module.label_space
    values = _file_values(cfg.ids, space.num_classes)
    teacher = made_with(cfg, "ids", classes=list(space.names), source=str(base.resolve()))
    with locked(out, "writing to it"):
        folder = LabelFolder(out, values, teacher=teacher, notes={"ckpt": str(cfg.ckpt)})
        folder.check(names)
        if cfg.ids == "train":
            lines = (f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(space.names, space.colors, strict=True))
            folder.write_text("classes.txt", "".join(lines))
        survival = KeptLabels(space.names)
        labelled, broken = label_images(as_label(module, with_confidence=True), names, folder, survival)
        folder.write_text("survival.csv", survival.csv())
    before = len(images) - labelled - len(broken)
    console.say(f"{survival.table()}\n{labelled} of {len(images)} images labelled, {before} were before: {cfg.out}")
    if broken:
        raise UserError(left_out(broken))
    return labelled


def _file_values(ids: Any, num_classes: int) -> list[int]:
    """Class -> value in the files."""
    if ids == "train":
        return list(range(num_classes))
    given = TRAIN_ID_TO_RAW_ID
    if ids != "cityscapes":
        given = ids if OmegaConf.is_list(ids) else ()
    values = [value for value in given if isinstance(value, int) and 0 <= value < 255]
    if not len(values) == len(set(values)) == num_classes:
        raise UserError(
            f"ids={ids} does not fit the net's {num_classes} classes; use train, cityscapes (19 classes), or a list of"
            f" {num_classes} different values in 0..254"
        )
    return values
