"""Cityscapes with fine annotations: listing, and the table from stored label ids to the 19 train ids.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016. The table is that of the
official scripts. Files hold label ids (0..33), not train ids; a result for the test server holds label ids again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ..label_space import IGNORE_INDEX, LabelSpace
from ..listing import files_at
from ..source import FileSource, Pair
from .pair_by_stem import check_split

__all__ = [
    "CATEGORIES",
    "FINE_SPLITS",
    "TRAIN_ID_TO_RAW_ID",
    "check_present",
    "city_folder",
    "city_pairs",
    "cityscapes",
    "label_space",
]

FINE_SPLITS = ("train", "val", "test", "train_cv1", "val_cv1", "train_cv2", "val_cv2")
_VAL_CITIES = {  # of the divisions that are not the official one; what else train and val hold is train there
    "1": ("darmstadt", "dusseldorf", "erfurt"),
    "2": ("monchengladbach", "strasbourg", "stuttgart"),
}
_IMAGES = dict.fromkeys(("train", "val", "test"), "leftImg8bit_trainvaltest.zip")
_IMAGES["train_extra"] = "leftImg8bit_trainextra.zip"
_LABELS = {"gtFine": "gtFine_trainvaltest.zip", "gtCoarse": "gtCoarse.zip"}
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

    Beside the official division there are two in which other cities are val, so that choices can be checked on images
    that no one else tuned on (Tao et al. 2020, released code; its fourth division is train and val for both).

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``, or folders called as the archives with these inside.
        split: ``train`` (2975 images), ``val`` (500), or ``test`` (1525), which comes without labels: the files in
            ``gtFine/test`` are placeholders that must not be scored; ``train_cv1`` (3060) and ``val_cv1`` (415),
            ``train_cv2`` (2820) and ``val_cv2`` (655).

    Returns:
        The pairs sorted by folder, city and name; names are ``<city>_<sequence>_<frame>``.

    Raises:
        UserError: for an unknown split, a missing folder, a folder without images, or an image without its label.
    """
    check_split("Cityscapes", split, FINE_SPLITS)
    return FileSource(city_pairs(root, split, "gtFine"), label_space())


def city_pairs(root: str | Path, split: str, kind: str | None) -> list[Pair]:
    """Images of one of ``FINE_SPLITS`` or ``train_extra`` with labels of ``kind``: ``gtFine``, ``gtCoarse`` or none.

    Raises:
        UserError: as ``cityscapes``.
    """
    role, _, division = split.partition("_cv")
    if not division:
        return _part_pairs(root, split, kind)
    pairs = [pair for part in ("train", "val") for pair in _part_pairs(root, part, kind)]
    pairs = [pair for pair in pairs if (pair.image.parent.name in _VAL_CITIES[division]) == (role == "val")]
    if not pairs:
        raise UserError(
            f"{Path(root).resolve()}: no image of split '{split}', whose cities for val are"
            f" {', '.join(_VAL_CITIES[division])}; unpack {_IMAGES['train']} completely, or use splits train and val"
        )
    return pairs


def _part_pairs(root: str | Path, part: str, kind: str | None) -> list[Pair]:
    images = city_folder(root, f"leftImg8bit/{part}", _IMAGES[part])
    labels = city_folder(root, f"{kind}/{part}", _LABELS[kind]) if kind and part != "test" else None
    ending, pairs = f"_{kind}_labelIds.png", []
    for image in files_at(images, "_leftImg8bit.png", depth=1):
        name = image.name.removesuffix("_leftImg8bit.png")
        pairs.append(Pair(image, labels and labels / image.parent.name / (name + ending), name))
    if not pairs:
        raise UserError(
            f"{images.resolve()}: no <city>/*_leftImg8bit.png files; unpack {_IMAGES[part]} with its folders, or set"
            " data.root to the folder that holds leftImg8bit and gtFine"
        )
    if kind and labels:
        check_present([pair.label for pair in pairs], labels, f"unpack {_LABELS[kind]} completely into data.root")
    return pairs


def check_present(wanted: Sequence[Path | None], folder: Path, remedy: str, *, kind: str = "label") -> None:
    """Raise a ``UserError`` that ends in ``remedy`` unless all ``<folder>/<city>/*.png`` in ``wanted`` are there."""
    present = set(files_at(folder, ".png", depth=1))
    missing = [path for path in wanted if path not in present]
    if missing:
        raise UserError(f"{missing[0]}: {kind} not found ({len(missing)} of {len(wanted)} images have none); {remedy}")


def label_space() -> LabelSpace:
    """The 19 classes as stored label ids spell them."""
    values = dict.fromkeys(_RAW_IDS, IGNORE_INDEX) | {raw_id: i for i, raw_id in enumerate(TRAIN_ID_TO_RAW_ID)}
    names, _, categories, colors = zip(*_CLASSES, strict=True)
    return LabelSpace(names, colors, file_values=values, categories=categories)


def city_folder(root: str | Path, below: str, archive: str) -> Path:
    """``<root>/<below>``, or that in a folder called as ``archive``.

    Raises:
        UserError: if there is neither; it names the archive.
    """
    root = Path(root).expanduser()
    folders = (root / below, root / Path(archive).stem / below)
    for folder in folders:
        if folder.is_dir():
            return folder
    raise UserError(
        f"{folders[0].resolve()}: Cityscapes folder not found; register at cityscapes-dataset.com, download {archive},"
        " unpack it and set data.root to the folder that holds leftImg8bit and gtFine"
    )
