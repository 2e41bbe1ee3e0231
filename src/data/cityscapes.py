"""Cityscapes with fine annotations: listing, and the table from stored label ids to the 19 train ids.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016. The table is that of the
official scripts. Files hold label ids (0..33), not train ids; a result for the test server holds label ids again.
"""

from __future__ import annotations

from pathlib import Path

from src.data.dataset import FileSource, Pair
from src.data.label_space import IGNORE_INDEX, LabelSpace
from src.errors import UserError, nearest

__all__ = ["CATEGORIES", "TRAIN_ID_TO_RAW_ID", "cityscapes"]

_SPLITS = ("train", "val", "test")
_RAW_IDS = range(-1, 34)  # -1 is the licence plate, which is never drawn into a label file

# Train-id order: name, stored label id, category, colour.
_CLASSES = (
    ("road", 7, "flat", (128, 64, 128)),
    ("sidewalk", 8, "flat", (244, 35, 232)),
    ("building", 11, "construction", (70, 70, 70)),
    ("wall", 12, "construction", (102, 102, 156)),
    ("fence", 13, "construction", (190, 153, 153)),
    ("pole", 17, "object", (153, 153, 153)),
    ("traffic light", 19, "object", (250, 170, 30)),
    ("traffic sign", 20, "object", (220, 220, 0)),
    ("vegetation", 21, "nature", (107, 142, 35)),
    ("terrain", 22, "nature", (152, 251, 152)),
    ("sky", 23, "sky", (70, 130, 180)),
    ("person", 24, "human", (220, 20, 60)),
    ("rider", 25, "human", (255, 0, 0)),
    ("car", 26, "vehicle", (0, 0, 142)),
    ("truck", 27, "vehicle", (0, 0, 70)),
    ("bus", 28, "vehicle", (0, 60, 100)),
    ("train", 31, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, "vehicle", (0, 0, 230)),
    ("bicycle", 33, "vehicle", (119, 11, 32)),
)

TRAIN_ID_TO_RAW_ID: tuple[int, ...] = tuple(raw_id for _, raw_id, _, _ in _CLASSES)
"""Stored label id of each train id, as the test server wants it."""

CATEGORIES: dict[str, tuple[int, ...]] = {
    category: tuple(i for i, row in enumerate(_CLASSES) if row[2] == category)
    for category in dict.fromkeys(row[2] for row in _CLASSES)
}
"""Train ids of each of the seven categories, for the category IoU."""


def cityscapes(*, root: str | Path, split: str) -> FileSource:
    """Cityscapes fine: ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` with ``gtFine/.../*_gtFine_labelIds.png``.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``.
        split: ``train`` (2975 images), ``val`` (500), or ``test`` (1525), which comes without labels: the files in
            ``gtFine/test`` are placeholders that must not be scored.

    Returns:
        The pairs sorted by name; names are ``<city>_<sequence>_<frame>``.

    Raises:
        UserError: for an unknown split, a missing folder, a folder without images, or an image without its label.
    """
    if split not in _SPLITS:
        raise UserError(f"Cityscapes has no split '{split}'; use {', '.join(_SPLITS)}.{nearest(split, _SPLITS)}")
    root = Path(root).expanduser()
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    _check_folder(images, "leftImg8bit_trainvaltest.zip")
    if split != "test":
        _check_folder(labels, "gtFine_trainvaltest.zip")

    pairs = []
    for image in sorted(images.glob("*/*_leftImg8bit.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        label = None if split == "test" else labels / image.parent.name / f"{name}_gtFine_labelIds.png"
        pairs.append(Pair(image, label, name))
    if not pairs:
        raise UserError(
            f"{images.resolve()}: no <city>/*_leftImg8bit.png files; unpack leftImg8bit_trainvaltest.zip with its"
            " folders, or set data.root to the folder that holds leftImg8bit and gtFine"
        )
    missing = [pair for pair in pairs if pair.label is not None and not pair.label.is_file()]
    if missing:
        raise UserError(
            f"{missing[0].label}: label not found ({len(missing)} of {len(pairs)} images have none); unpack"
            " gtFine_trainvaltest.zip completely into data.root"
        )
    return FileSource(pairs, _label_space())


def _label_space() -> LabelSpace:
    values = dict.fromkeys(_RAW_IDS, IGNORE_INDEX) | {raw_id: i for i, raw_id in enumerate(TRAIN_ID_TO_RAW_ID)}
    return LabelSpace([row[0] for row in _CLASSES], [row[3] for row in _CLASSES], file_values=values)


def _check_folder(folder: Path, archive: str) -> None:
    if not folder.is_dir():
        raise UserError(
            f"{folder.resolve()}: Cityscapes folder not found; register at cityscapes-dataset.com, download {archive},"
            " unpack it and set data.root to the folder that holds leftImg8bit and gtFine"
        )
