"""Where images and masks lie below a root folder, and how their names pair."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from src.errors import UserError, nearest

__all__ = ["EXTENSIONS", "FolderLayout", "few"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")


@dataclass(frozen=True)
class FolderLayout:
    """Folders of images and masks below a root; ``{split}`` in their names stands for the split.

    Files pair by key: the path below their folder without extension and without suffix. A suffix may include the
    extension; a file without the suffix of its kind is passed over. ``confidence_suffix`` ends the key of a map of
    confidence after that of its mask.
    """

    image_dir: str = "images"
    mask_dir: str = "masks"
    image_suffix: str = ""
    mask_suffix: str = ""
    confidence_suffix: str | None = None

    @property
    def has_split(self) -> bool:
        """Whether every split has its own folder."""
        return "{split}" in self.image_dir

    def by_split(self, root: Path) -> FolderLayout:
        """The same with one folder per split where ``<image_dir>/train`` exists."""
        if self.has_split or not (root / self.image_dir / "train").is_dir():
            return self
        mask_dir = self.mask_dir if "{split}" in self.mask_dir else f"{self.mask_dir}/{{split}}"
        return replace(self, image_dir=f"{self.image_dir}/{{split}}", mask_dir=mask_dir)

    def image_base(self, root: Path, split: str) -> Path:
        """Folder of a split's images."""
        return root / self.image_dir.replace("{split}", split)

    def mask_base(self, root: Path, split: str) -> Path:
        """Folder of a split's masks."""
        return root / self.mask_dir.replace("{split}", split)

    def image_folders(self, root: Path) -> list[Path]:
        """Image folders of every split."""
        return _folders(root, self.image_dir)

    def mask_folders(self, root: Path) -> list[Path]:
        """Mask folders of every split."""
        return _folders(root, self.mask_dir)

    def images(self, root: Path, split: str) -> dict[str, Path]:
        """Images of a split by key; empty where the folder does not exist.

        Raises:
            UserError: if two files have one key.
        """
        # In one common folder, masks are told from images by their suffix alone.
        shared = self.image_dir == self.mask_dir and not self.image_suffix
        base, masks = self.image_base(root, split), self.mask_base(root, split)
        found = _by_key(base, self.image_suffix, self.mask_suffix if shared else "")
        nested = base in masks.parents
        return {key: path for key, path in found.items() if not (nested and masks in path.parents)}

    def masks(self, root: Path, split: str) -> dict[str, Path]:
        """Masks of a split by key, as ``images``; maps of confidence are among them."""
        return _by_key(self.mask_base(root, split), self.mask_suffix)

    def all_masks(self, root: Path) -> Iterator[Path]:
        """Masks of every split without maps of confidence, by name and lazily."""
        for base in self.mask_folders(root):
            keys = ((path, _key(path, base, self.mask_suffix)) for path in _files(base))
            yield from (path for path, key in keys if key is not None and not self._is_map(key))

    def has_maps(self, root: Path) -> bool:
        """Whether any split has a map of confidence."""
        files = ((path, base) for base in self.mask_folders(root) for path in _files(base))
        return any(self._is_map(_key(path, base, "")) for path, base in files)

    def _is_map(self, key: str) -> bool:
        return bool(self.confidence_suffix) and key.endswith(self.confidence_suffix)

    def check(self, root: Path, *, option: str = "data.root") -> None:
        """Raise a ``UserError`` that says what was looked for where, unless the folders exist."""
        if not root.is_dir():
            raise UserError(
                f"{root.resolve()}: folder not found, looked for {self.image_dir}/ and {self.mask_dir}/ in it; set"
                f" {option} to the folder that holds your images and masks"
            )
        for kind, name in (("image_dir", self.image_dir), ("mask_dir", self.mask_dir)):
            fixed = root.joinpath(*takewhile(lambda part: "{split}" not in part, Path(name).parts))
            if not fixed.is_dir():
                inside = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
                raise UserError(
                    f"{fixed.resolve()}: folder not found ({option} holds {few(inside) or 'no folders'}); create it"
                    f" or set data.{kind}.{nearest(name, [folder for folder in inside if folder != self.image_dir])}"
                )


def few(names: Sequence[str], count: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _folders(root: Path, name: str) -> list[Path]:
    if "{split}" not in name:
        return [root / name]
    return sorted(path for path in root.glob(name.replace("{split}", "*")) if path.is_dir())


def _files(base: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(base, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):  # macOS leaves "._name.png"
                yield Path(folder, name)


def _key(path: Path, base: Path, suffix: str) -> str | None:
    below = path.relative_to(base).as_posix()
    stem = below[: -len(path.suffix)]
    name = next((name for name in (stem, below) if name.endswith(suffix)), None)
    return None if name is None else name.removesuffix(suffix)


def _by_key(base: Path, suffix: str, skip: str = "") -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _files(base):
        key = _key(path, base, suffix)
        if key is None or (skip and _key(path, base, skip) is not None):
            continue
        if key in found:
            raise UserError(
                f"{base}: '{found[key].relative_to(base)}' and '{path.relative_to(base)}' have one name, so their pair"
                " is ambiguous; remove one, or tell them apart by data.image_suffix or data.mask_suffix (such as .png)"
            )
        found[key] = path
    return found
