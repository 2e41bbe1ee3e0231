"""What lies in a user's folder when its images and masks do not pair, and the options that would pair them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..listing import EXTENSIONS
from .layout import few

__all__ = ["Pairing", "annotation_format", "mask_folders", "missing_masks", "notes", "pairing", "skipped", "unpaired"]

_MOST_FILES = 20_000  # looked at in one folder, so that a hint never takes long
_PROBES = 8  # names of which each is tried as the pattern of all
_TEXT = (".json", ".xml", ".txt", ".csv", ".yaml", ".yml", ".md", ".db", ".ini", ".html")  # not meant as images
_HEAD = 65_536  # bytes of a file of annotations that are looked at
_SEPARATORS = "_-. "


class Pairing(NamedTuple):
    """Endings that image and mask names have beyond what they share, and how many pairs they give."""

    image_suffix: str
    mask_suffix: str
    pairs: int

    def options(self, mask_dir: str | None = None) -> str:
        """The options that set them."""
        given = {"mask_dir": mask_dir, "image_suffix": self.image_suffix, "mask_suffix": self.mask_suffix}
        return " ".join(f"data.{name}={value}" for name, value in given.items() if value) or "nothing more"


def unpaired(root: Path, image_base: Path, mask_base: Path, images: Sequence[Path], masks: Sequence[Path]) -> str:
    """How names of images and masks differ and what would pair them, as the end of a sentence.

    Args:
        root: folder of both.
        image_base, mask_base: where they lie.
        images: their files.
        masks: files of ``mask_base`` that are not images of the set.
    """
    shown = f"images are named {_some(images)}"
    shown += f" and masks {_some(masks)}" if masks else " and there are no masks" + _seen((mask_base, image_base))
    own = pairing(_stems(images, image_base), _stems(masks, mask_base))
    if own is not None:
        shown += f"; {own.options()} pairs {own.pairs} of {len(images)}"
    elif masks:
        shown += "; no ending pairs them: rename one kind, or list 'image mask' in each line of data.splits_files"
    image_dir, mask_dir = (base.relative_to(root).as_posix() for base in (image_base, mask_base))
    for name, other in mask_folders(root, image_dir, mask_dir, images):
        shown += f"; {name}/ would pair {other.pairs} by {other.options(name)}"
    return shown


def missing_masks(root: Path, image_dir: str, mask_dir: str) -> str:
    """What to do where the folder of masks is not there, as the end of a sentence."""
    images = _images(root / image_dir)
    others = mask_folders(root, image_dir, mask_dir, images)
    if others:
        return "; ".join(f"{name}/ would pair {found.pairs} images by {found.options(name)}" for name, found in others)
    found = annotation_format(
        *[folder for folder in _folders(root) if folder != root / image_dir], root / image_dir, root
    )
    if found:
        return f"there are labels in {found}, a format that is not read; draw masks from it, one PNG an image"
    inside = [path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name != image_dir]
    return f"beside {image_dir}/ there is {few(inside) or 'no folder'}; create it, or set data.mask_dir"


def notes(root: Path, image_dir: str, mask_dir: str) -> list[str]:
    """What else lies in a folder whose images and masks pair: files that are not read, and other masks."""
    if "{split}" in image_dir + mask_dir:
        return []
    base = root / image_dir
    found = [sentence for sentence in (skipped(base),) if sentence]
    images = _images(base)
    if image_dir != mask_dir:
        found += [
            f"{root / name}: holds masks for {pair.pairs} images, too, and is not read; to use it instead of"
            f" {mask_dir}: {pair.options(name)}"
            for name, pair in mask_folders(root, image_dir, mask_dir, images)
        ]
    return found


def pairing(images: Sequence[str], masks: Sequence[str]) -> Pairing | None:
    """The endings that pair the most of these names without extension; ``None`` if none pair half of either."""
    have = set(masks)
    best: Pairing | None = None
    least = max(1, min(len(images), len(masks)) // 2)  # fewer pair by chance
    ordered = sorted(masks)
    for probe in images[:: max(1, len(images) // _PROBES)][:_PROBES]:
        shared = max((os.path.commonprefix([probe, mask]) for mask in ordered), key=len, default="")  # noqa: RUF071
        tails = {(probe[len(shared) :], mask[len(shared) :]) for mask in ordered if mask.startswith(shared) and shared}
        for tail in sorted(tails, key=lambda both: (sum(map(len, both)), both))[:_PROBES]:
            for ends in dict.fromkeys((_from_separator(shared, *tail), tail)):
                count = sum(
                    name.endswith(ends[0]) and name[: len(name) - len(ends[0])] + ends[1] in have for name in images
                )
                if count >= least and (best is None or count > best.pairs):
                    best = Pairing(*ends, count)
    return best


def mask_folders(root: Path, image_dir: str, mask_dir: str, images: Sequence[Path]) -> list[tuple[str, Pairing]]:
    """Other folders below ``root`` with a mask for at least half of the images, and the endings that pair them."""
    names = _stems(images, root / image_dir)
    found: list[tuple[str, Pairing]] = []
    for folder in _folders(root):
        below = folder.relative_to(root).as_posix()
        parts = Path(below).parts
        if below in (image_dir, mask_dir) or parts[0] in (Path(image_dir).parts[:1] or ("",)):
            continue
        # Photos are seldom masks, and masks are never lossy.
        files = [path for path in _images(folder) if path.suffix.lower() not in (".jpg", ".jpeg", ".webp")]
        pair = pairing(names, _stems(files, folder))
        if pair is not None and 2 * pair.pairs >= len(names):
            found.append((below, pair))
    return found[:3]


def skipped(base: Path) -> str | None:
    """A sentence on files in a folder of images whose suffix is none that is read."""
    endings = Counter(
        path.suffix.lower() or "without suffix"
        for path in _files(base)
        if path.suffix.lower() not in (*EXTENSIONS, *_TEXT)
    )
    if not endings:
        return None
    count = sum(endings.values())
    kinds = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(5))
    return (
        f"{base}: {count} {'file is' if count == 1 else 'files are'} skipped ({kinds}), since only"
        f" {', '.join(EXTENSIONS)} are read; convert photos to PNG or JPEG"
    )


def annotation_format(*folders: Path) -> str | None:
    """The annotation format whose files lie in the folders, with an example; ``None`` if there is none."""
    for folder in folders:
        candidates = [path for path in _files(folder) if path.suffix.lower() in (".json", ".xml", ".txt")]
        for path in candidates[:50]:
            found = _format(path)
            if found:
                return f"{found} ({path})"
    return None


def _format(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return None
    ending = path.suffix.lower()
    if ending == ".json" and '"shapes"' in text:
        return "LabelMe"
    if ending == ".json" and re.search(r'"(images|categories|annotations)"\s*:\s*\[', text):
        return "COCO"
    if ending == ".xml" and "<annotations" in text:
        return "CVAT"
    if ending == ".xml" and "<annotation" in text:
        return "Pascal VOC boxes"
    line = text.partition("\n")[0].split()
    numbers = [part for part in line[1:] if re.fullmatch(r"[01]?\.\d+|[01]", part)]
    if ending == ".txt" and len(line) >= 5 and line[0].isdigit() and len(numbers) == len(line) - 1:
        return "YOLO"
    return None


def _seen(folders: Sequence[Path]) -> str:
    found = annotation_format(*folders)
    return f" but {found}, which is not read; draw masks from it, one PNG an image" if found else ""


def _from_separator(shared: str, image: str, mask: str) -> tuple[str, str]:
    """Both endings, begun at the last separator in what the names share where that is near: ``_image``, not ``age``."""
    place = max(map(shared.rfind, _SEPARATORS))
    if place < 0 or not (image and mask) or shared[place:].strip(_SEPARATORS).isdigit() or len(shared) - place > 12:
        return image, mask
    return shared[place:] + image, shared[place:] + mask


def _some(paths: Sequence[Path]) -> str:
    return few([path.name for path in paths])


def _stems(paths: Sequence[Path], base: Path) -> list[str]:
    return [path.relative_to(base).with_suffix("").as_posix() for path in paths if path.is_relative_to(base)]


def _folders(root: Path) -> list[Path]:
    """Folders below ``root``, two levels deep, without hidden ones."""
    first = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    second = [path for folder in first for path in sorted(folder.iterdir()) if path.is_dir()]
    return [*first, *second][:200]


def _files(base: Path) -> list[Path]:
    """The first files below ``base`` by folder and name, without hidden ones."""
    found: list[Path] = []
    for folder, below, names in os.walk(base):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        if len(found) >= _MOST_FILES:
            break
    return found[:_MOST_FILES]


def _images(base: Path) -> list[Path]:
    return [path for path in _files(base) if path.suffix.lower() in EXTENSIONS]
