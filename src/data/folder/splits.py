"""How images are distinguished: split files, or a draw by a hash of each name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError, nearest, printable
from ..decoding import read_text
from ..source import Pair
from .layout import FolderLayout, KeyedFiles

__all__ = ["Splits", "listed_pairs"]


@dataclass(frozen=True)
class Splits:
    """Text files by split, below the root; where there are none, shares of the images and the seed of their draw."""

    files: Mapping[str, str] | None
    fractions: Mapping[str, float]
    seed: int

    def draw(self, key: str) -> str | None:
        """Split of a name: its hash with the seed, read as a number in 0..1, falls into one of the fractions."""
        digest = hashlib.sha256(os.fsencode(f"{self.seed}:{key}")).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        for split, share in self.fractions.items():
            position -= share
            if position < 0:
                return split
        return None

    def check(self, split: str) -> None:
        """Raise a ``UserError`` unless ``split`` has a share and the shares make sense."""
        if split not in self.fractions:
            raise UserError(
                f"split '{split}' is not in data.fractions ({', '.join(self.fractions)}); add its share there, or give"
                f" images/{split} and masks/{split}, or data.splits_files.{nearest(split, self.fractions)}"
            )
        if min(self.fractions.values()) < 0 or sum(self.fractions.values()) > 1 + 1e-6:
            raise UserError(f"data.fractions={dict(self.fractions)}: shares must not be negative nor exceed 1 together")


def listed_pairs(
    root: Path,
    split: str,
    layout: FolderLayout,
    files: Mapping[str, str],
    images: KeyedFiles,
    masks: Mapping[str, Path],
) -> list[Pair]:
    """The pairs that the file of ``split`` lists, an image or "image mask" a line.

    Args:
        root: what paths in the file may be relative to.
        split: whose file.
        layout: where images and masks lie.
        files: split -> text file below ``root``.
        images, masks: key -> path.

    Raises:
        UserError: if there is no such file, or a line names what does not exist.
    """
    if split not in files:
        raise UserError(
            f"data.splits_files has no entry for split '{split}' but {', '.join(files)}; add"
            f" '+data.splits_files.{split}={split}.txt' or name another split in data.splits.{nearest(split, files)}"
        )
    listing = root / files[split]
    if not listing.is_file():
        raise UserError(f"{listing.resolve()}: split file not found; correct data.splits_files.{split}")
    prefix = f"{layout.image_base(root, split).relative_to(root).as_posix()}/"
    keys = {name: key for key, name in images.names.items()}
    keys |= {name[: name.rindex(".")]: key for name, key in keys.items()}
    keys |= {key: key for key in images}
    pairs = []
    for number, line in enumerate(read_text(listing, any_bytes=True).splitlines(), 1):
        entry = line.strip().removeprefix("./")
        if not entry or entry.startswith("#"):
            continue
        key = keys.get(entry) or keys.get(entry.removeprefix(prefix))  # with and without folder, extension, suffix
        if key is not None:
            pairs.append(Pair(images[key], masks.get(key), key))
        else:
            pairs.append(_explicit_pair(root, split, layout, entry, f"{listing}, line {number}"))
    return pairs


def _explicit_pair(root: Path, split: str, layout: FolderLayout, entry: str, where: str) -> Pair:
    parts = [part.strip() for part in re.split(r"[\t,]" if re.search(r"[\t,]", entry) else r"\s+", entry)]
    bases = (layout.image_base(root, split), layout.mask_base(root, split))
    utf_8 = not any("\udc80" <= letter <= "\udcff" for letter in entry)
    coding = "" if utf_8 else "; it is not UTF-8, so perhaps save the list as UTF-8"
    if len(parts) != 2:
        raise UserError(f"{where}: no image '{printable(entry)}' below {bases[0]}; correct or remove the line{coding}")
    files: list[Path] = []
    for part, base in zip(parts, bases, strict=True):
        found = [path for path in (root / part, base / part) if path.is_file()]
        if not found:
            raise UserError(
                f"{where}: no file '{printable(part)}' below {root} or {base}; correct or remove the line"
                f" (an image name, or 'image mask'){coding}"
            )
        files.append(found[0])
    return Pair(files[0], files[1], Path(parts[0]).with_suffix("").as_posix())
