"""Cityscapes' train_extra: 19998 images of 23 other cities, labelled coarsely by hand or in detail by a net.

Coarse labels: Cordts et al., CVPR 2016. Labels made by a net: Tao, Sapra, Catanzaro: Hierarchical Multi-Scale Attention
for Semantic Segmentation, 2020, section 3.4 and its released code and labels. Both sets also give the fine splits, so
that one set can mix them: ``data.splits.train=[train,train_extra]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Len, Predicate

from ...errors import UserError, nearest
from ...schema.faults import checked
from ...schema.types import Fraction, Names, Whole, Words
from ..decoding import read_label
from ..label_space import IGNORE_INDEX
from ..source import FileSource, Pair
from .cityscapes import FINE_SPLITS, check_present, city_pairs, cityscapes, label_space
from .pair_by_stem import check_split

__all__ = ["cityscapes_autolabelled", "cityscapes_coarse"]

_AUTO_ARCHIVE = "refinement_final_v0.zip"
_AUTO_FOLDERS = ("refinement_final_v0", "autolabelled")


def cityscapes_coarse(*, root: str | Path, split: str) -> FileSource:
    """Coarse labels, ``gtCoarse/<part>/<city>/*_gtCoarse_labelIds.png``, most of whose pixels are ignored.

    Args:
        root: as ``cityscapes``, and holds ``gtCoarse``.
        split: ``train_extra`` (19998 images); ``train_coarse`` (2975) and ``val_coarse`` (500), the coarse labels of
            the images of ``train`` and ``val``: to train on ``val_coarse`` is to train on what ``val`` scores; or a
            split of ``cityscapes``, with its fine labels.

    Raises:
        UserError: as ``cityscapes``.
    """
    check_split("Cityscapes", split, (*FINE_SPLITS, "train_extra", "train_coarse", "val_coarse"))
    if split in FINE_SPLITS:
        return cityscapes(root=root, split=split)
    return FileSource(city_pairs(root, split.removesuffix("_coarse"), "gtCoarse"), label_space())


Window = Annotated[
    Sequence[Whole],
    Len(4, 4),
    Predicate(lambda window: window[0] <= window[1] and window[2] <= window[3]),
    Words("[first row, last row, first column, last column], such as [15, 839, 14, 2029]"),
]


@checked("data")
def cityscapes_autolabelled(
    *,
    root: str | Path,
    split: str,
    label_dir: str | Path | None = None,
    min_confidence: Fraction | None = None,
    label_window: Window | None = None,
    coarse_classes: Names | None = None,
) -> FileSource:
    """Labels that a net made: ``<label_dir>/train_extra/<city>/*_leftImg8bit.png``, each with the name of its image.

    Beside each lies its map of confidence, ``*_leftImg8bit_prob.png``.

    Args:
        root: as ``cityscapes``.
        split: ``train_extra`` (19998 images), or a split of ``cityscapes``, whose fine labels no option changes.
        label_dir: folder of the labels, below ``root`` or anywhere; ``None``: ``refinement_final_v0``, as the archive
            unpacks, else ``autolabelled``.
        min_confidence: ignore labels below this probability; ``None`` keeps all and needs no map of confidence.
        label_window: first and last row, first and last column, beyond which labels are ignored; ``None``: the image.
        coarse_classes: where the coarse label by hand (``gtCoarse``) shows one of these, it is taken, whatever the net
            says and however sure it is; ``None``: never.

    Raises:
        UserError: as ``cityscapes``; for labels without map of confidence, an unknown class, or no such window.
    """
    check_split("Cityscapes", split, (*FINE_SPLITS, "train_extra"))
    if split in FINE_SPLITS:
        return cityscapes(root=root, split=split)
    return _AutoLabels(
        _auto_pairs(Path(root).expanduser(), label_dir, with_confidence=min_confidence is not None),
        min_confidence=min_confidence,
        by_hand=[pair.label for pair in city_pairs(root, split, "gtCoarse")] if coarse_classes else None,
        coarse_classes=[coarse_classes] if isinstance(coarse_classes, str) else coarse_classes or (),
        label_window=label_window,
    )


class _AutoLabels(FileSource):
    """Labels of a net, amended by hand-made ones and cut to a window.

    Args:
        pairs, min_confidence: see ``FileSource``.
        by_hand: coarse label of each pair, or ``None``.
        coarse_classes, label_window: see ``cityscapes_autolabelled``.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        min_confidence: Fraction | None,
        by_hand: Sequence[Path | None] | None,
        coarse_classes: Sequence[str],
        label_window: Window | None,
    ) -> None:
        super().__init__(pairs, label_space(), min_confidence=min_confidence)
        names = self.label_space.names
        for name in coarse_classes:
            if name not in names:
                raise UserError(
                    f"data.coarse_classes names '{name}', which is not a class of Cityscapes ({', '.join(names)})."
                    f"{nearest(name, names)}"
                )
        self.by_hand = by_hand
        self.label_window = label_window
        self.taken = [names.index(name) for name in coarse_classes]

    def _encoded(self, index: int, stored: np.ndarray) -> np.ndarray:
        label = super()._encoded(index, stored)
        by_hand = None if self.by_hand is None else self.by_hand[index]
        if by_hand is not None:
            self._amend(label, by_hand)
        if self.label_window is not None:
            top, bottom, left, right = self.label_window
            label[:top] = label[bottom + 1 :] = IGNORE_INDEX
            label[:, :left] = label[:, right + 1 :] = IGNORE_INDEX
        return label

    def _amend(self, label: np.ndarray, path: Path) -> None:
        by_hand = self.label_space.encode(read_label(path), path)
        if by_hand.shape != label.shape:
            raise UserError(
                f"{path}: coarse label is {by_hand.shape[1]}x{by_hand.shape[0]} but its image is"
                f" {label.shape[1]}x{label.shape[0]} (width x height); unpack gtCoarse.zip again"
            )
        taken = np.isin(by_hand, self.taken)
        label[taken] = by_hand[taken]


def _auto_pairs(root: Path, label_dir: str | Path | None, *, with_confidence: bool) -> list[Pair]:
    """Images are listed, never labels: the archive holds a stray second copy of one label in a folder ``tmp``."""
    folder = _auto_folder(root, label_dir)
    pairs = []
    for pair in city_pairs(root, "train_extra", None):
        label = folder / pair.image.parent.name / pair.image.name
        confidence = label.with_name(f"{label.stem}_prob.png") if with_confidence else None
        pairs.append(pair._replace(label=label, confidence=confidence))
    if folder.samefile(pairs[0].image.parent.parent):
        raise UserError(f"data.label_dir={label_dir} is the folder of the images; name that of their labels")
    check_present([pair.label for pair in pairs], folder, f"unpack {_AUTO_ARCHIVE} completely, or set data.label_dir")
    if with_confidence:
        maps = [pair.confidence for pair in pairs]
        check_present(
            maps, folder, "unpack the _prob.png files too, or set data.min_confidence=null", kind="map of confidence"
        )
    return pairs


def _auto_folder(root: Path, label_dir: str | Path | None) -> Path:
    """The folder of cities; the level ``train_extra`` may be left out of a folder that is named."""
    if label_dir is None:
        folders = [root / name / "train_extra" for name in (*_AUTO_FOLDERS, f"{_AUTO_FOLDERS[0]}/{_AUTO_FOLDERS[0]}")]
    else:
        named = root / Path(label_dir).expanduser()
        folders = [named / "train_extra", named]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise UserError(
        f"{folders[0].resolve()}: no labels made by a net; unpack {_AUTO_ARCHIVE} (linked by the README of"
        " github.com/NVIDIA/semantic-segmentation) into data.root, or set data.label_dir to your own"
    )
