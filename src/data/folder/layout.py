"""Where images and masks lie below a root folder, and how their names pair."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from ...errors import UserError, nearest
from ..listing import image_files

__all__ = ["FolderLayout", "KeyedFiles", "few", "without_repeats"]


class KeyedFiles(Mapping[str, Path]):
    """Files below a folder by key. A path is made when it is asked for, since a split asks for its own only.

    Args:
        base: the folder.
        names: key -> path below it.
    """

    def __init__(self, base: Path, names: dict[str, str]) -> None:
        self.base = base
        self.names = names

    def __getitem__(self, key: str) -> Path:
        return self.base / self.names[key]

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FolderLayout:
    """Folders of images and masks below a root; ``{split}`` in their names stands for the split.

    Files pair by key: the path below their folder without extension and without suffix. A suffix may include the
    extension; a file without the suffix of its kind is skipped. ``confidence_suffix`` ends the key of a map of
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

    def images(self, root: Path, split: str) -> KeyedFiles:
        """Images of a split by key; empty where the folder does not exist.

        Raises:
            UserError: if two files have one key.
        """
        # In one common folder, masks are told from images by their suffix alone.
        shared = self.image_dir == self.mask_dir and not self.image_suffix
        base, masks = self.image_base(root, split), self.mask_base(root, split)
        below = f"{masks.relative_to(base).as_posix()}/" if base in masks.parents else None
        return _by_key(base, self.image_suffix, skip=self.mask_suffix if shared else "", leave_out=below)

    def masks(self, root: Path, split: str) -> KeyedFiles:
        """Masks of a split by key, as ``images``; maps of confidence are among them."""
        return _by_key(self.mask_base(root, split), self.mask_suffix)

    def all_masks(self, root: Path) -> Iterator[Path]:
        """Masks of every split without maps of confidence, by name and lazily."""
        for base in self.mask_folders(root):
            keys = ((name, _key(name, self.mask_suffix)) for name in image_files(base))
            yield from (base / name for name, key in keys if key is not None and not self._is_map(key))

    def has_maps(self, root: Path) -> bool:
        """Whether any split has a map of confidence."""
        names = (name for base in self.mask_folders(root) for name in image_files(base))
        return any(self._is_map(name[: name.rindex(".")]) for name in names)

    def _is_map(self, key: str) -> bool:
        return bool(self.confidence_suffix) and key.endswith(str(self.confidence_suffix))

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


def without_repeats(images: KeyedFiles, masks: Mapping[str, Path]) -> KeyedFiles:
    """``images`` without those that a link leads to once more, unless they have another mask there.

    Else one pair would be several, of which some may be trained on and others scored. The path that goes through fewer
    links stays.
    """
    folders = {name.rpartition("/")[0] for name in images.names.values()}
    real = {folder: (images.base / folder).resolve() for folder in folders}
    if len(set(real.values())) == len(real):
        return images
    kept: dict[str, str] = {}
    known: dict[tuple[Path, str], set[Path | None]] = {}  # image -> the masks it was seen with
    for key, name in images.names.items():
        folder, _, file = name.rpartition("/")
        mask = masks[key].resolve() if key in masks else None
        seen = known.setdefault((real[folder], file), set())
        if mask not in seen and (mask is not None or not seen):
            kept[key] = name
        seen.add(mask)
    return KeyedFiles(images.base, kept)


def few(names: Sequence[str], count: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _folders(root: Path, name: str) -> list[Path]:
    if "{split}" not in name:
        return [root / name]
    return sorted(path for path in root.glob(glob.escape(name).replace("{split}", "*")) if path.is_dir())


def _key(name: str, suffix: str) -> str | None:
    """Key of a file by its path below its folder, or ``None`` where it lacks the suffix."""
    stem = name[: name.rindex(".")]
    if not suffix:
        return stem
    whole = next((part for part in (stem, name) if part.endswith(suffix)), None)
    return None if whole is None else whole.removesuffix(suffix)


def _by_key(base: Path, suffix: str, *, skip: str = "", leave_out: str | None = None) -> KeyedFiles:
    found: dict[str, str] = {}
    for name in image_files(base):
        key = _key(name, suffix)
        if key is None or (skip and _key(name, skip) is not None) or (leave_out and name.startswith(leave_out)):
            continue
        if key in found:
            raise UserError(
                f"{base}: '{found[key]}' and '{name}' have one name, so their pair is ambiguous; remove one, or tell"
                " them apart by data.image_suffix or data.mask_suffix (such as .png)"
            )
        found[key] = name
    return KeyedFiles(base, found)
