"""PASCAL Context: every pixel of the VOC 2010 training images, in 59 classes or in 60 with background.

Mottaghi et al.: The Role of Context for Object Detection and Semantic Segmentation in the Wild, CVPR 2014. Scores over
59 and over 60 classes differ by several points and cannot be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import UserError
from ..label_space import IGNORE_INDEX, LabelSpace
from ..source import FileSource, Pair
from .class_tables import class_table
from .mat_labels import with_png_labels
from .pair_by_stem import check_split, pair_by_stem, read_stems
from .voc import devkit

__all__ = ["label_space", "pascal_context"]

_SPLITS = ("train", "val")
_RAW_LABELS = 459
_BACKGROUND = ("background", (120, 120, 120))
_DEVKIT = (
    "unpack VOCtrainval_03-May-2010.tar (host.robots.ox.ac.uk/pascal/VOC/voc2010) completely and set data.root to the"
    " folder that holds VOCdevkit"
)
_LABELS = (
    "unpack trainval.tar.gz of PASCAL Context (cs.stanford.edu/~roozbeh/pascal-context) completely into data.root, or"
    " put labels that were converted already into VOCdevkit/VOC2010/SegmentationClassContext"
)


def pascal_context(*, root: str | Path, split: str, classes: Literal[59, 60] = 59) -> FileSource:
    """PASCAL Context: ``VOCdevkit/VOC2010/JPEGImages/<id>.jpg`` with labels of one of two kinds.

    ``SegmentationClassContext/<id>.png`` (0 background, 1..59) where there is such a folder; else the published
    ``trainval/<id>.mat`` with 459 raw labels, which are copied to PNG of the first kind once, into ``trainval_png``.

    Args:
        root: folder that holds ``VOCdevkit`` (or is it, or ``VOC2010``) and, unless that does, ``trainval``.
        split: ``train`` (4998 images) or ``val`` (5105): ``ImageSets/SegmentationContext/<split>.txt`` where a
            conversion wrote such lists (4996 and 5104 by one in wide use), else VOC's own ``ImageSets/Main``.
        classes: 59 ignores the background; 60 makes it class 0.

    Returns:
        The pairs in the order of the list.

    Raises:
        UserError: for another number of classes, an unknown split, a missing folder or list, or an image or label that
            is not there.
    """
    if classes not in (59, 60):
        raise UserError(
            f"data.num_classes={classes}: PASCAL Context has 59 classes, or 60 with background; use"
            " data=pascal_context or data=pascal_context60"
        )
    check_split("PASCAL Context", split, _SPLITS)
    root = Path(root).expanduser()
    kit = devkit(root, 2010, _DEVKIT)
    own = kit / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    stems = read_stems(own if own.is_file() else kit / "ImageSets" / "Main" / own.name, _DEVKIT)
    return FileSource(_pairs(root, kit, stems), label_space(with_background=classes == 60))


def _pairs(root: Path, kit: Path, stems: list[str]) -> list[Pair]:
    images, converted = kit / "JPEGImages", kit / "SegmentationClassContext"
    if converted.is_dir():
        return pair_by_stem(images, converted, stems=stems, remedy=_LABELS)
    published = kit / "trainval" if (kit / "trainval").is_dir() else root / "trainval"
    pairs = pair_by_stem(images, published, stems=stems, label_suffix=".mat", remedy=_LABELS)
    values = np.zeros(_RAW_LABELS + 1, np.uint8)
    for raw, train_id in class_table("pascal_context").values.items():
        values[raw] = train_id + 1
    folder = published.with_name("trainval_png")
    return with_png_labels(pairs, folder, variable="LabelMap", values=values)


def label_space(*, with_background: bool) -> LabelSpace:
    """The 59 classes, or 60 with the background as class 0."""
    names, colors, _ = class_table("pascal_context")
    if with_background:
        return LabelSpace(
            [_BACKGROUND[0], *names], [_BACKGROUND[1], *colors], file_values={i: i for i in range(len(names) + 1)}
        )
    return LabelSpace(names, colors, file_values={0: IGNORE_INDEX} | {i + 1: i for i in range(len(names))})
