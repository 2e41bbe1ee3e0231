"""Anyone's own data: a folder of images, a folder of masks, and a class list.

Splits come from, in this order: split files; one folder per split (``images/train``); a hash of each name, so that a
file stays in its split whatever is added to or removed from the folder. Classes: see ``src.data.class_list``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.data.class_list import Classes, build_label_space
from src.data.dataset import FileSource, Pair
from src.data.folder_layout import EXTENSIONS, FolderLayout, few
from src.errors import UserError, nearest

__all__ = ["folder"]


def folder(
    *,
    root: str | Path | Sequence[str | Path],
    split: str,
    classes: Classes | None = None,
    encoding: str = "index",
    file_values: Mapping[int, int] | None = None,
    file_colors: Mapping[str, Sequence] | None = None,
    image_dir: str = "images",
    mask_dir: str = "masks",
    image_suffix: str = "",
    mask_suffix: str = "",
    splits_files: Mapping[str, str] | None = None,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> FileSource:
    """Image and mask folders, nested or not, paired by their path below the folder without suffix and extension.

    Args:
        root: one folder or several that hold ``image_dir`` and ``mask_dir``.
        split: which split; ``test`` may come without any mask, then its labels are ``None``.
        classes: names in the order of their values, or name -> RGB; ``None`` reads ``classes.txt`` or
            ``classes.json`` of the root.
        encoding: ``"index"`` for grey or palette masks, ``"color"`` for RGB masks.
        file_values: stored value -> class id or 255 (ignore); ``None`` takes 0..K-1 and 255 as they are.
        file_colors: class name or ``ignore`` -> further RGB colour(s) that stand for it in the masks.
        image_dir: folder of the images below ``root``; may contain ``{split}``.
        mask_dir: folder of the masks below ``root``; may contain ``{split}``.
        image_suffix: ending of image names that mask names lack, such as ``_rgb``; other files are no images.
        mask_suffix: ending of mask names that image names lack, such as ``_mask``; other files are no masks.
        splits_files: split -> text file below ``root`` that holds an image or "image mask" per line.
        fractions: split -> share of the images, adding up to at most 1; ``None`` is 0.8 train, 0.1 val, 0.1 test.
        seed: of the draw by ``fractions``.

    Returns:
        The pairs of every root in order; within a root by name, or as the split file has them.

    Raises:
        UserError: when something is missing, ambiguous or empty, each time with what to set.
    """
    roots = [Path(item).expanduser() for item in ([root] if isinstance(root, str | Path) else root)]
    layout = FolderLayout(image_dir.strip("/"), mask_dir.strip("/"), image_suffix, mask_suffix)
    splits = _Splits(splits_files, dict(fractions or {"train": 0.8, "val": 0.1, "test": 0.1}), seed)
    pairs, unmatched = [], []
    for index, base in enumerate(roots):
        layout.check(base)
        found, spare = _root_pairs(base, split, layout if splits_files else layout.by_split(base), splits)
        same_name = sum(other.name == base.name for other in roots) > 1
        prefix = "" if len(roots) == 1 else f"{base.name}_{index}/" if same_name else f"{base.name}/"
        pairs += [pair._replace(name=prefix + pair.name) for pair in found]
        unmatched += spare
    if not pairs:
        raise UserError(_why_empty(roots, split, layout if splits_files else layout.by_split(roots[0]), splits))
    masks = (path for base in roots for path in layout.by_split(base).all_masks(base))
    space = build_label_space(roots, masks, classes, encoding, file_values, file_colors)
    return FileSource(pairs, space, unmatched=unmatched)


@dataclass(frozen=True)
class _Splits:
    """How images are told apart: by files, else by drawing."""

    files: Mapping[str, str] | None
    fractions: Mapping[str, float]
    seed: int

    def draw(self, key: str) -> str | None:
        """Split of a name: its hash with the seed, read as a number in 0..1, falls into one of the fractions."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        for split, share in self.fractions.items():
            position -= share
            if position < 0:
                return split
        return None

    def check(self, split: str) -> None:
        if split not in self.fractions:
            raise UserError(
                f"split '{split}' is not in data.fractions ({', '.join(self.fractions)}); add its share there, or give"
                f" images/{split} and masks/{split}, or data.splits_files.{nearest(split, self.fractions)}"
            )
        if min(self.fractions.values()) < 0 or sum(self.fractions.values()) > 1 + 1e-6:
            raise UserError(f"data.fractions={dict(self.fractions)}: shares must not be negative nor exceed 1 together")


def _root_pairs(root: Path, split: str, layout: FolderLayout, splits: _Splits) -> tuple[list[Pair], list[Path]]:
    images, masks = layout.images(root, split), layout.masks(root, split)
    if not images and not layout.has_split:
        ending = f" ending in '{layout.image_suffix}'" if layout.image_suffix else ""
        raise UserError(
            f"{layout.image_base(root, split).resolve()}: no images{ending} ({', '.join(EXTENSIONS)}); put"
            " them there or set data.image_dir and data.image_suffix"
        )
    if splits.files:
        pairs = _listed_pairs(root, split, layout, splits.files, images, masks)
    else:
        if not layout.has_split:
            splits.check(split)
        keys = [key for key in sorted(images) if layout.has_split or splits.draw(key) == split]
        pairs = [Pair(images[key], masks.get(key), key) for key in keys]
    bare = [pair.image.name for pair in pairs if pair.label is None]
    if bare and not (split == "test" and len(bare) == len(pairs)):
        raise UserError(
            f"{layout.mask_base(root, split)}: {len(bare)} of {len(pairs)} images of split '{split}'"
            f" have no mask here ({few(bare)}); set data.mask_suffix or data.image_suffix if their names differ by an"
            " ending, add the masks, or list the labelled images in data.splits_files"
        )
    claimed = {pair.label for pair in pairs}
    return pairs, [masks[key] for key in sorted(masks.keys() - images.keys()) if masks[key] not in claimed]


def _listed_pairs(
    root: Path,
    split: str,
    layout: FolderLayout,
    files: Mapping[str, str],
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
) -> list[Pair]:
    if split not in files:
        raise UserError(
            f"data.splits_files has no entry for split '{split}' but {', '.join(files)}; add"
            f" '+data.splits_files.{split}={split}.txt' or name another split in data.splits.{nearest(split, files)}"
        )
    listing = root / files[split]
    if not listing.is_file():
        raise UserError(f"{listing.resolve()}: split file not found; correct data.splits_files.{split}")
    base = layout.image_base(root, split)
    keys = {}  # every spelling of an image: with and without folder, extension, suffix
    for key, path in images.items():
        below = path.relative_to(base)
        spellings = (key, below.as_posix(), below.with_suffix("").as_posix(), path.relative_to(root).as_posix())
        keys |= dict.fromkeys(spellings, key)
    pairs = []
    for number, line in enumerate(listing.read_text(encoding="utf-8-sig").splitlines(), 1):
        entry = line.strip().removeprefix("./")
        if not entry or entry.startswith("#"):
            continue
        if entry in keys:
            pairs.append(Pair(images[keys[entry]], masks.get(keys[entry]), keys[entry]))
        else:
            pairs.append(_explicit_pair(root, split, layout, entry, f"{listing}, line {number}"))
    return pairs


def _explicit_pair(root: Path, split: str, layout: FolderLayout, entry: str, where: str) -> Pair:
    parts = [part.strip() for part in re.split(r"[\t,]" if re.search(r"[\t,]", entry) else r"\s+", entry)]
    bases = (layout.image_base(root, split), layout.mask_base(root, split))
    if len(parts) != 2:
        raise UserError(f"{where}: no image '{entry}' below {bases[0]}; correct or remove the line")
    files = [
        next((path for path in (root / part, base / part) if path.is_file()), None)
        for part, base in zip(parts, bases, strict=True)
    ]
    if None in files:
        absent = files.index(None)
        raise UserError(
            f"{where}: no file '{parts[absent]}' below {root} or {bases[absent]}; correct or remove the line (an image"
            " name, or 'image mask')"
        )
    return Pair(*files, Path(parts[0]).with_suffix("").as_posix())


def _why_empty(roots: Sequence[Path], split: str, layout: FolderLayout, splits: _Splits) -> str:
    if splits.files:
        return f"{roots[0] / splits.files[split]}: lists no image for split '{split}'; write one name per line"
    if layout.has_split:
        present = [str(path.relative_to(roots[0])) for path in layout.image_folders(roots[0])]
        return (
            f"{layout.image_base(roots[0], split)}: no images for split '{split}' (there is"
            f" {few(present) or 'no such folder'}); add them, or name another split in data.splits"
        )
    keys = [key for root in roots for key in layout.images(root, split)]
    wanted = {name for name, share in splits.fractions.items() if share > 0}
    seeds = (seed for seed in range(1000) if {replace(splits, seed=seed).draw(key) for key in keys} >= wanted)
    better = next(seeds, None)
    remedy = f"raise data.fractions.{split} or add images" if better is None else f"set data.seed={better}"
    return (
        f"{roots[0]}: split '{split}' is empty, as none of {len(keys)} images falls into it by"
        f" data.fractions={dict(splits.fractions)} and data.seed={splits.seed}; {remedy}, or give data.splits_files"
    )
