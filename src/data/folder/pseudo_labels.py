"""Pseudo-labels that ``src.autolabel`` wrote, each with its map of confidence, and how many a threshold keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files.csv_text import cell, csv_text
from ..source import Pair
from .layout import FolderLayout, few

__all__ = ["MANIFEST", "THRESHOLDS", "KeptLabels", "auto_pairs", "check_maps", "split_maps"]

MANIFEST = "autolabel.json"  # beside the labels: what they were made with
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(10, 20))  # 0.5 to 0.95; the paper takes 0.9


def split_maps(
    masks: Mapping[str, Path], images: Mapping[str, Path], suffix: str | None
) -> tuple[Mapping[str, Path], dict[Path, Path]]:
    """Masks by key without the maps of confidence among them, and mask -> its map.

    Args:
        masks: key -> file, maps included.
        images: key -> image; what an image claims is a mask.
        suffix: ending of a map's key after that of its mask; ``None``: there are no maps.
    """
    own = {key: key + suffix for key in masks if key + suffix in masks} if suffix else {}
    own = {key: other for key, other in own.items() if other not in images}
    if not own:
        return masks, {}
    maps = set(own.values())
    rest = {key: path for key, path in masks.items() if key not in maps}
    return rest, {masks[key]: masks[other] for key, other in own.items()}


def check_maps(pairs: Sequence[Pair], min_confidence: float, suffix: str | None, *, required: bool) -> None:
    """Raise a ``UserError`` if some pairs lack the map of confidence that others have, or any if it is ``required``."""
    bare = [pair.label for pair in pairs if pair.label is not None and pair.confidence is None]
    if bare and (required or len(bare) < len(pairs)):
        beside = f" ({bare[0].stem}{suffix}.png)" if suffix else ""
        raise UserError(
            f"{bare[0]}: {len(bare)} of {len(pairs)} masks have no map of confidence beside them{beside}, which"
            f" data.min_confidence={min_confidence} needs; write both with src.autolabel, correct"
            " data.confidence_suffix, or set data.min_confidence=null"
        )


def auto_pairs(root: Path, split: str, layout: FolderLayout) -> list[Pair]:
    """Every image below ``root`` with the mask and the map that ``src.autolabel`` wrote for it.

    Raises:
        UserError: for a missing folder, no image, an image without mask, or masks with other values than classes.
    """
    layout.check(root, option=f"data.autolabelled.{split}")
    images = layout.images(root, split)
    masks, maps = split_maps(layout.masks(root, split), images, layout.confidence_suffix)
    bare = [key for key in sorted(images) if key not in masks]
    folders = layout.image_base(root, split), layout.mask_base(root, split)
    if bare or not images:
        what = f"{len(bare)} of {len(images)} images have no label ({few(bare)})" if bare else "there are no images"
        raise UserError(
            f"{root}: {what}; label them: python -m src.autolabel ckpt=... source={folders[0]} out={folders[1]}"
        )
    _check_values(folders[1])
    return [Pair(images[key], masks[key], f"{split}/{key}", maps.get(masks[key])) for key in sorted(images)]


def _check_values(folder: Path) -> None:
    try:
        content = json.loads((folder / MANIFEST).read_text())
        ids = content["made_with" if "made_with" in content else "teacher"]["ids"]  # as earlier versions called it
    except (OSError, ValueError, LookupError, TypeError):
        return  # somebody else's labels
    if ids != "train":
        raise UserError(
            f"{folder}: its labels were written with ids={ids}, and data.autolabelled reads classes; write them again"
            " into another folder with ids=train"
        )


class KeptLabels:
    """Pseudo-labels kept per threshold on confidence, counted by class: (K,256) int64, however many images there are.

    Hard labels with a map of confidence: hierarchical multi-scale attention (arXiv 2005.10821, section 4.3). The
    threshold is applied when they are loaded, so that it can change without labelling again.

    Args:
        names: of the classes, in the order of their ids.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.counts = np.zeros((len(self.names), 256), np.int64)

    def add(self, label: np.ndarray, confidence: np.ndarray) -> None:
        """Counts one image: (H,W) uint8 train ids, all of them classes, and (H,W) uint8 floor(255 p)."""
        keys = (label.astype(np.uint16) << 8) | confidence
        self.counts += np.bincount(keys.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def shares(self, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
        """(K,T) float64: the part of each class's pixels that ``data.min_confidence`` keeps; nan for absent classes."""
        kept = np.arange(256)[:, None] >= 255 * np.asarray(thresholds)
        with np.errstate(invalid="ignore"):
            return (self.counts @ kept) / self.counts.sum(1, keepdims=True)

    def table(self) -> str:
        """Aligned text: share of all pixels, and percent of them kept, by class and threshold."""
        width = max(map(len, [*self.names, "all classes"]))
        whole = KeptLabels(["all classes"])
        whole.counts = self.counts.sum(0, keepdims=True)
        pixels = whole.counts.sum()
        head = f" {'class':<{width}}  pixels %  " + "".join(f"{threshold:>7.2f}" for threshold in THRESHOLDS)
        rows = [" of the pixels given to a class, percent that keep it at data.min_confidence=T, for T of"]
        for name, part, shares in zip(
            [*self.names, "all classes"],
            [*self.counts.sum(1), pixels],
            [*self.shares(), whole.shares()[0]],
            strict=True,
        ):
            cells = "".join(f"{'–':>7}" if np.isnan(share) else f"{100 * share:7.1f}" for share in shares)
            rows.append(f" {name:<{width}}  {100 * part / max(1, pixels):8.2f}  {cells}")
        return "\n".join([rows[0], head, *rows[1:]])

    def csv(self) -> str:
        """The same as fractions: ``class,pixels,0.50,...`` with a row for each class, empty where it is absent."""
        head = ["class", "pixels", *(f"{threshold:.2f}" for threshold in THRESHOLDS)]
        rows = (
            [cell(name), pixels, *("" if np.isnan(share) else f"{share:.6f}" for share in shares)]
            for name, pixels, shares in zip(self.names, self.counts.sum(1), self.shares(), strict=True)
        )
        return csv_text([head, *rows])
