"""PASCAL VOC 2012 segmentation, its training set grown by the Semantic Boundaries Dataset (SBD), and FCN's splits.

Everingham et al.: The Pascal Visual Object Classes Challenge, IJCV 2015. Hariharan et al.: Semantic Contours from
Inverse Detectors, ICCV 2011. Labels are palette PNGs whose indices are class ids; 255 marks the borders of objects.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ..listing import files_at
from ..source import FileSource, Pair
from .class_tables import class_table
from .mat_labels import with_png_labels
from .pair_by_stem import check_split, pair_by_stem, read_stems

__all__ = ["devkit", "voc"]

_SPLITS = ("train", "val", "trainval", "test", "train_aug", "sbd_train", "seg11valid")
_DEVKIT = (
    "unpack VOCtrainval_11-May-2012.tar (host.robots.ox.ac.uk/pascal/VOC/voc2012) completely and set data.root to the"
    " folder that holds VOCdevkit"
)
_TEST = "unpack VOC2012test.tar of the evaluation server (host.robots.ox.ac.uk:8080) into the same VOCdevkit"
_VOC11 = "unpack VOCtrainval_25-May-2011.tar (host.robots.ox.ac.uk/pascal/VOC/voc2011) completely into data.root"
_SBD = (
    "unpack benchmark.tgz of the Semantic Boundaries Dataset completely into data.root, or put labels that were"
    " converted already into VOCdevkit/VOC2012/SegmentationClassAug"
)


def voc(*, root: str | Path, split: str) -> FileSource:
    """VOC 2012: ``VOCdevkit/VOC2012/JPEGImages/<id>.jpg`` with ``SegmentationClass/<id>.png``.

    ``train_aug`` is VOC train with its own labels, and every other image of SBD that is not in VOC val, with labels of
    ``SegmentationClassAug`` where there is such a folder, else of ``benchmark_RELEASE/dataset/cls/<id>.mat``, which are
    copied to PNG once, into ``cls_png``. Labels of SBD mark no border.

    FCN was trained on ``sbd_train``, SBD's train list with SBD's labels, which holds images of VOC val, and scored on
    ``seg11valid``: ``VOC2011``'s val without them (arXiv 1411.4038, section 5).

    Args:
        root: folder that holds ``VOCdevkit`` (or is it, or ``VOC2012``) and, for ``train_aug`` and FCN's splits,
            ``benchmark_RELEASE``; for ``seg11valid`` VOC 2011 too.
        split: ``train`` (1464 images), ``val`` (1449), ``trainval`` (2913), ``test`` (1456, without labels),
            ``train_aug`` (10582), none of whose images is in ``val``; ``sbd_train`` (8498), ``seg11valid`` (736).

    Returns:
        The pairs in the order of the official list; those of ``train_aug`` sorted by name.

    Raises:
        UserError: for an unknown split, a missing folder or list, or an image or label that is not there.
    """
    check_split("VOC", split, _SPLITS)
    root = Path(root).expanduser()
    sbd = root / "benchmark_RELEASE" / "dataset"
    if split == "seg11valid":
        return FileSource(_seg11valid(root, sbd), class_table("voc2012").label_space)
    kit = devkit(root, 2012, _DEVKIT)
    if split == "train_aug":
        pairs = _augmented(kit, sbd)
    elif split == "sbd_train":
        pairs = _of_sbd(kit, sbd, read_stems(sbd / "train.txt", _SBD))
    elif split == "test":
        pairs = pair_by_stem(kit / "JPEGImages", None, stems=_listed(kit, split, _TEST), remedy=_TEST)
    else:
        pairs = _official(kit, _listed(kit, split))
    return FileSource(pairs, class_table("voc2012").label_space)


def devkit(root: Path, year: int, remedy: str) -> Path:
    """The folder ``VOC<year>`` at or below ``root``.

    Raises:
        UserError: ending in ``remedy``, if none holds ``JPEGImages``.
    """
    folders = (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}", root)
    for folder in folders:
        if (folder / "JPEGImages").is_dir():
            return folder
    raise UserError(f"{(folders[0] / 'JPEGImages').resolve()}: folder not found; {remedy}")


def _listed(kit: Path, split: str, remedy: str = _DEVKIT) -> list[str]:
    return read_stems(kit / "ImageSets" / "Segmentation" / f"{split}.txt", remedy)


def _official(kit: Path, stems: list[str]) -> list[Pair]:
    return pair_by_stem(kit / "JPEGImages", kit / "SegmentationClass", stems=stems, remedy=_DEVKIT)


def _augmented(kit: Path, sbd: Path) -> list[Pair]:
    train, val = _listed(kit, "train"), _listed(kit, "val")
    converted = kit / "SegmentationClassAug"
    if converted.is_dir() and not sbd.is_dir():
        known = {path.stem for path in files_at(converted, ".png")}
    else:
        known = {stem for part in ("train", "val") for stem in read_stems(sbd / f"{part}.txt", _SBD)}
    more = sorted(known.difference(train, val))  # the lists of SBD mix images of VOC train and val
    if not more:
        raise UserError(f"{(converted if converted.is_dir() else sbd).resolve()}: adds no image to VOC train; {_SBD}")
    return sorted(_official(kit, train) + _of_sbd(kit, sbd, more), key=lambda pair: pair.name)


def _of_sbd(kit: Path, sbd: Path, stems: list[str]) -> list[Pair]:
    """Images of VOC with labels of SBD."""
    converted = kit / "SegmentationClassAug"
    if converted.is_dir():
        return pair_by_stem(kit / "JPEGImages", converted, stems=stems, remedy=_SBD)
    pairs = pair_by_stem(kit / "JPEGImages", sbd / "cls", stems=stems, label_suffix=".mat", remedy=_SBD)
    return with_png_labels(pairs, sbd / "cls_png", variable="GTcls.Segmentation")


def _seg11valid(root: Path, sbd: Path) -> list[Pair]:
    kit, trained = devkit(root, 2011, _VOC11), set(read_stems(sbd / "train.txt", _SBD))
    stems = [stem for stem in _listed(kit, "val", _VOC11) if stem not in trained]
    return pair_by_stem(kit / "JPEGImages", kit / "SegmentationClass", stems=stems, remedy=_VOC11)
