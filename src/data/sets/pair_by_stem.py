"""Images and labels of published sets, paired by the stem of their file names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...errors import UserError, nearest
from ..decoding import read_text
from ..source import Pair

__all__ = ["check_folder", "check_split", "pair_by_stem", "read_stems"]


def check_split(data_set: str, split: str, splits: Iterable[str]) -> None:
    """Raise a ``UserError`` for a split that is none of ``splits``."""
    names = list(splits)
    if split not in names:
        raise UserError(f"{data_set} has no split '{split}'; use {', '.join(names)}.{nearest(split, names)}")


def check_folder(folder: Path, remedy: str) -> None:
    """Raises a ``UserError`` that ends in ``remedy`` unless ``folder`` is one."""
    if not folder.is_dir():
        raise UserError(f"{folder.resolve()}: folder not found; {remedy}")


def pair_by_stem(
    images: Path,
    labels: Path | None,
    *,
    remedy: str,
    stems: Iterable[str] | None = None,
    label_suffix: str = ".png",
) -> list[Pair]:
    """``images/<stem>.jpg`` with ``labels/<stem><label_suffix>``; each folder is listed once.

    Args:
        images: folder of images.
        labels: folder of labels; ``None`` where there are none.
        remedy: how to get the files, the end of each error.
        stems: what to pair, in this order; ``None``: every image, sorted by name.
        label_suffix: ending of label names.

    Raises:
        UserError: for a missing folder, no image at all, or an image or a label that is not there.
    """
    have_images = _stems(images, ".jpg", remedy)
    wanted = sorted(have_images) if stems is None else list(stems)
    if not wanted:
        raise UserError(f"{images.resolve()}: no images (*.jpg); {remedy}")
    needed = [("image", images, ".jpg", have_images)]
    if labels is not None:
        needed.append(("label", labels, label_suffix, _stems(labels, label_suffix, remedy)))
    for kind, folder, suffix, have in needed:
        absent = [stem for stem in wanted if stem not in have]
        if absent:
            raise UserError(
                f"{(folder / (absent[0] + suffix)).resolve()}: {kind} not found ({len(absent)} of {len(wanted)} are"
                f" missing); {remedy}"
            )
    return [
        Pair(images / f"{stem}.jpg", None if labels is None else labels / f"{stem}{label_suffix}", stem)
        for stem in wanted
    ]


def read_stems(path: Path, remedy: str) -> list[str]:
    """The first word of each line of a published list of files.

    Raises:
        UserError: if the list is missing, empty or no UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path.resolve()}: list of files not found; {remedy}")
    stems = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if not stems:
        raise UserError(f"{path.resolve()}: list of files is empty; {remedy}")
    return stems


def _stems(folder: Path, suffix: str, remedy: str) -> set[str]:
    check_folder(folder, remedy)
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]  # macOS leaves "._name.jpg"
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
