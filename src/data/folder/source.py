"""Anyone's own data: a folder of images, a folder of masks, and a class list.

Splits come from, in this order: split files; one folder per split (``images/train``); a hash of each name, so that a
file stays in its split whatever is added to or removed from the folder. Classes: see ``src.data.folder.classes``.
Labels that ``src.autolabel`` wrote are a split of their own in a folder of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from ...errors import UserError
from ...schema.faults import checked
from ...schema.types import Fraction, Seed, Share
from ..label_space import LabelSpace
from ..listing import EXTENSIONS
from ..source import FileSource, Pair
from . import hints
from .classes import Classes, build_label_space, read_classes
from .layout import FolderLayout, few, without_repeats
from .pseudo_labels import auto_pairs, check_maps, split_maps
from .splits import Splits, listed_pairs

__all__ = ["folder"]


@checked("data")
def folder(
    *,
    root: str | Path | Sequence[str | Path],
    split: str,
    classes: Classes | None = None,
    encoding: Literal["index", "color"] = "index",
    file_values: Mapping[int | str, int] | None = None,
    file_colors: Mapping[str, Sequence] | None = None,
    image_dir: str = "images",
    mask_dir: str = "masks",
    image_suffix: str = "",
    mask_suffix: str = "",
    confidence_suffix: str | None = "_prob",
    min_confidence: Fraction | None = None,
    autolabelled: Mapping[str, str | Path] | None = None,
    splits_files: Mapping[str, str] | None = None,
    fractions: Mapping[str, Share] | None = None,
    seed: Seed = 0,
    unlabelled: Literal["error", "skip"] = "error",
) -> FileSource:
    """Image and mask folders, nested or not, paired by their path below the folder without suffix and extension.

    Args:
        root: one folder or several that hold ``image_dir`` and ``mask_dir``.
        split: which split; ``test`` may come without any mask, then its labels are ``None``.
        classes: names in the order of their values, or name -> RGB; ``None`` reads ``classes.txt`` or
            ``classes.json`` of the root or of its masks.
        encoding: ``"index"`` for grey or palette masks, ``"color"`` for RGB masks.
        file_values: stored value -> class id or 255 (ignore); ``None`` takes 0..K-1 and 255 as they are.
        file_colors: class name or ``ignore`` -> further RGB colour(s) that stand for it in the masks.
        image_dir: folder of the images below ``root``; may contain ``{split}``.
        mask_dir: folder of the masks below ``root``; may contain ``{split}``.
        image_suffix: ending of image names that mask names lack, such as ``_rgb``; other files are not images.
        mask_suffix: ending of mask names that image names lack, such as ``_mask``; other files are not masks.
        confidence_suffix: ending that the name of a mask's map of confidence has after the mask's; ``None``: no maps.
        min_confidence: labels whose map shows a lower probability are ignored; ``None`` keeps all.
        autolabelled: split -> folder that holds ``image_dir`` and ``mask_dir``, the latter written by
            ``src.autolabel`` (class ids, whatever ``encoding`` and ``file_values`` say of other masks).
        splits_files: split -> text file below ``root`` that holds an image or "image mask" per line.
        fractions: split -> share of the images, adding up to at most 1; ``None`` is 0.8 train, 0.1 val, 0.1 test.
        seed: of the draw by ``fractions``.
        unlabelled: what to do with images that have no mask: ``"error"`` refuses them, ``"skip"`` leaves them out.

    Returns:
        The pairs of every root in order; within a root by name, or as the split file has them.

    Raises:
        UserError: when something is missing, ambiguous or empty, each time with what to set.
    """
    roots = [Path(item).expanduser() for item in ([root] if isinstance(root, str | Path) else root)]
    layout = FolderLayout(image_dir.strip("/"), mask_dir.strip("/"), image_suffix, mask_suffix, confidence_suffix)
    splits = Splits(splits_files, dict(fractions or {"train": 0.8, "val": 0.1, "test": 0.1}), seed)
    masks = (path for base in roots for path in layout.by_split(base).all_masks(base))
    lists = [*roots, *(base / layout.mask_dir for base in roots)]
    lists += [place for base in roots for place in layout.by_split(base).mask_folders(base)]
    space = partial(build_label_space, lists, masks, classes, encoding, file_values, file_colors)
    autolabelled = autolabelled or {}
    if not isinstance(autolabelled, Mapping) or not all(autolabelled.values()):
        raise UserError(f"data.autolabelled={autolabelled} must map splits to folders, such as {{auto: pool}}")
    if split in autolabelled:
        return _auto_source(Path(autolabelled[split]).expanduser(), split, layout, space, min_confidence)
    if unlabelled not in ("error", "skip"):
        raise UserError(f"data.unlabelled={unlabelled} is unknown; use error or skip")
    pairs: list[Pair] = []
    unmatched: list[Path] = []
    left_out: list[Path] = []
    for index, base in enumerate(roots):
        _check_folders(base, layout)
        used = layout if splits_files else layout.by_split(base)
        found, spare, bare = _root_pairs(base, split, used, splits, skip=unlabelled == "skip")
        prefix = ""
        if len(roots) > 1:
            same_name = sum(other.name == base.name for other in roots) > 1
            prefix = f"{base.name}_{index}/" if same_name else f"{base.name}/"
        pairs += [pair._replace(name=prefix + pair.name) for pair in found]
        unmatched += spare
        left_out += bare
        if min_confidence is not None:
            nowhere = not autolabelled and not any(layout.by_split(other).has_maps(other) for other in roots)
            check_maps(found, min_confidence, confidence_suffix, required=nowhere)
    if not pairs:
        raise UserError(_why_empty(roots, split, layout if splits_files else layout.by_split(roots[0]), splits))
    return FileSource(pairs, space(), unmatched=unmatched, left_out=left_out, min_confidence=min_confidence)


def _check_folders(root: Path, layout: FolderLayout) -> None:
    """Raise a ``UserError`` with what would help unless there are folders of images and of masks."""
    if "{split}" not in layout.image_dir + layout.mask_dir:
        images, masks = root / layout.image_dir, root / layout.mask_dir
        if images.is_dir() and not masks.is_dir():
            hint = hints.missing_masks(root, layout.image_dir, layout.mask_dir)
            raise UserError(f"{masks.resolve()}: folder of masks not found; {hint}")
        if layout.image_dir == layout.mask_dir and layout.image_suffix == layout.mask_suffix:
            found = hints.annotation_format(images)
            more = f"; there are labels in {found}, a format that is not read" if found else ""
            raise UserError(
                f"data.image_dir and data.mask_dir are both {layout.mask_dir}, so each photo would be its own mask; set"
                f" data.mask_suffix to the ending that tells masks from photos, such as _mask{more}"
            )
    layout.check(root)


def _auto_source(
    root: Path, split: str, layout: FolderLayout, space: Callable[[], LabelSpace], min_confidence: Fraction | None
) -> FileSource:
    layout = replace(layout, image_suffix="", mask_suffix="")
    pairs = auto_pairs(root, split, layout)
    if min_confidence is not None:
        check_maps(pairs, min_confidence, layout.confidence_suffix, required=True)
    own = read_classes([root, layout.mask_base(root, split)])
    names = space() if own is None else build_label_space([root], [], own, "index", None, None)
    return FileSource(pairs, LabelSpace(names.names, names.colors), min_confidence=min_confidence)


def _root_pairs(
    root: Path, split: str, layout: FolderLayout, splits: Splits, *, skip: bool
) -> tuple[list[Pair], list[Path], list[Path]]:
    """Pairs of a split, masks without image, and with ``skip`` the images without mask that are left out."""
    images = layout.images(root, split)
    masks, maps = split_maps(layout.masks(root, split), images, layout.confidence_suffix)
    every, images = images, without_repeats(images, masks)
    if not images and not layout.has_split:
        ending = f" ending in '{layout.image_suffix}'" if layout.image_suffix else ""
        other = hints.skipped(layout.image_base(root, split))
        raise UserError(
            f"{layout.image_base(root, split).resolve()}: no images{ending} ({', '.join(EXTENSIONS)}); put"
            f" them there or set data.image_dir and data.image_suffix{f' ({other})' if other else ''}"
        )
    if splits.files:
        pairs = listed_pairs(root, split, layout, splits.files, images, masks)
    else:
        if not layout.has_split:
            splits.check(split)
        keys = [key for key in sorted(images) if layout.has_split or splits.draw(key) == split]
        pairs = [Pair(images[key], masks.get(key), key) for key in keys]
    count, bare = len(pairs), [pair.image for pair in pairs if pair.label is None]
    prediction_only = split == "test" and len(bare) == len(pairs)
    if skip and not prediction_only:
        pairs = [pair for pair in pairs if pair.label is not None]
    if bare and not prediction_only and not (skip and pairs):
        some = few([path.name for path in bare])
        raise UserError(
            f"{layout.mask_base(root, split)}: {len(bare)} of {count} images of split '{split}' have no mask here"
            f" ({some}); {_how_to_pair(root, split, layout, images)}"
        )
    spare = [masks[key] for key in sorted(masks.keys() - every.keys())]
    if spare:
        claimed = {pair.label for pair in pairs}
        spare = [path for path in spare if path not in claimed]
    if maps:
        pairs = [pair._replace(confidence=maps.get(pair.label) if pair.label else None) for pair in pairs]
    return pairs, spare, [] if prediction_only else bare


def _how_to_pair(root: Path, split: str, layout: FolderLayout, images: Mapping[str, Path]) -> str:
    masks = layout.masks(root, split)
    if 2 * len(masks.keys() & images.keys()) > len(images):
        return (
            "add the masks, leave such images out with data.unlabelled=skip, or list the labelled ones in"
            " data.splits_files"
        )
    base, any_name = layout.mask_base(root, split), replace(layout, mask_suffix="")
    spare = [path for path in any_name.masks(root, split).values() if path not in set(images.values())]
    return hints.unpaired(root, layout.image_base(root, split), base, sorted(images.values()), sorted(spare))


def _why_empty(roots: Sequence[Path], split: str, layout: FolderLayout, splits: Splits) -> str:
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
