"""Labels that a net wrote into a folder, read back: each mask with its map of confidence beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.data.dataset import Pair
from src.data.folder.layout import FolderLayout, few
from src.errors import UserError

__all__ = ["MANIFEST", "auto_pairs", "check_maps", "split_maps"]

MANIFEST = "autolabel.json"  # beside the labels: what they were made with


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
            f"{folder}: its labels were written with ids={ids}, and data.autolabelled reads classes; write them anew"
            " into another folder with ids=train"
        )
