"""The folder of a prediction: which images go into it under which names, and what is finished there."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.images import check_distinct, find_images, full_name, output_names
from ..files.output_paths import check_inside
from ..reports import console
from .output_record import OutputRecord
from .outputs import AREAS, IMAGE_KINDS

__all__ = ["OutputFolder", "image_key", "names_of"]

MANIFEST = "predict.json"


class OutputFolder:
    """Pictures as ``<kind>/<name>``, and what they were made with: ``predict.json`` and ``sources.jsonl``.

    Args:
        folder: made if it is missing; the caller holds it (``files.locked``).
        made_with: plain containers; what a later run must have in common to resume here.

    Raises:
        UserError: if the folder holds pictures that were made with other settings or by hand, or cannot be written.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        self.folder = folder
        self._record = OutputRecord(folder, MANIFEST, made_with, command="src.predict", foreign=self._files_there())

    def _files_there(self) -> Iterator[Path]:
        for kind in IMAGE_KINDS:
            yield from (path for path in (self.folder / kind).rglob("*") if not path.is_dir())
        if (self.folder / AREAS).exists():
            yield self.folder / AREAS

    def own_name(self, source: Path, name: Path) -> Path:
        """``name``, or if it belongs to another source with its stem, such as another video, the full name."""
        if self._record.other_source(image_key(name), source) is None:
            return name
        return full_name(name.with_name(source.name)).with_suffix(name.suffix)

    def check(self, names: Mapping[Path, Path], kinds: Sequence[str]) -> None:
        """Refuses two sources of one name, and names whose folders lie outside this one because of links.

        Args:
            names: source -> name of its pictures.
            kinds: of pictures.

        Raises:
            UserError: naming the sources, or the folder.
        """
        check_distinct(names)
        parents = {name.parent for name in names.values()}
        check_inside(self.folder, (self.folder / kind / parent for kind in kinds for parent in parents))

    def files(self, name: Path, kinds: Sequence[str]) -> dict[str, Path]:
        """Kind of picture -> its file."""
        return {kind: self.folder / kind / name for kind in kinds if kind != "area"}

    def finished(self, source: Path, name: Path, kinds: Sequence[str]) -> bool:
        """Whether an earlier run wrote every picture of the source as it is now."""
        return self._record.is_made_from(image_key(name), source, self.files(name, kinds).values())

    def replaced(self, source: Path, name: Path) -> bool:
        """Whether pictures were made from the source as it was before it changed."""
        return self._record.is_replaced(image_key(name), source)

    def remove(self, name: Path) -> None:
        """Removes the pictures of an image, of all kinds."""
        for file in self.files(name, IMAGE_KINDS).values():
            file.unlink(missing_ok=True)

    def finish(self, name: Path) -> None:
        """Notes that all pictures of the name are whole."""
        self._record.add(image_key(name))


def image_key(name: Path) -> str:
    """Name of an image, whose pictures are called ``name``, in ``areas.csv`` and in the record."""
    return name.with_suffix("").as_posix()


def names_of(source: str, out: Path) -> tuple[Path, dict[Path, Path]]:
    """The folder that the images of a source lie in, and for each the name of its pictures in ``out``.

    Pictures of earlier predictions, in ``out`` or in a folder of the source, are no images; a line says how many.

    Raises:
        UserError: if there is no image.
    """
    base, found = find_images(source)
    images = _without_pictures(found, out, None if Path(source).is_file() else base)
    if not images:
        raise UserError(f"source={source}: holds nothing but pictures of earlier predictions; name a folder of images")
    if len(images) < len(found):
        console.say(f"{len(found) - len(images)} pictures of earlier predictions are left out")
    return base, output_names(base, images)


def _without_pictures(images: Sequence[Path], out: Path, below: Path | None) -> list[Path]:
    """``images`` but for the pictures of predictions, whose folder is ``out`` or lies in ``below``."""
    own, top = os.path.realpath(out), None if below is None else Path(os.path.realpath(below))

    @functools.cache
    def holds_pictures(folder: Path) -> bool:
        place = Path(os.path.realpath(folder))
        return any(
            kind.name in IMAGE_KINDS
            and (kind.parent / MANIFEST).is_file()
            and (str(kind.parent) == own or top in kind.parents)
            for kind in (place, *place.parents)
        )

    return [image for image in images if not holds_pictures(image.parent)]
