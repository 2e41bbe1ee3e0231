"""One prediction: what is not finished of its images, ordinary or huge, or of its video."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from src.errors import UserError
from src.prediction.areas import Areas
from src.prediction.folder import OutputFolder
from src.prediction.huge import Blocks, segment_huge, stored_size
from src.prediction.images import segment_images
from src.prediction.pictures import Label, Pictures
from src.prediction.video import segment_video

__all__ = ["Run"]


class Run:
    """Writes pictures into a folder, and goes on where an earlier run ended.

    Args:
        label: the net.
        pictures: what to write.
        folder: where.
        areas: where pixels of classes are noted, if at all.
        batch_size: images or frames of one size that ``label`` gets together at most.
    """

    def __init__(
        self, label: Label, pictures: Pictures, folder: OutputFolder, areas: Areas | None, *, batch_size: int
    ) -> None:
        self.label, self.pictures, self.folder, self.areas = label, pictures, folder, areas
        self.batch_size = batch_size

    def images(
        self, names: Mapping[Path, Path], *, huge_from: int, blocks: Blocks, refused: str | None = None
    ) -> tuple[int, list[str]]:
        """Ordinary images first.

        Args:
            names: image file -> name of its pictures.
            huge_from: TIFF and PNG files of more pixels are segmented by blocks, into TIFF files.
            blocks: of those.
            refused: why none may be segmented by blocks, where that is so.

        Returns:
            How many were segmented, and a line for each that could not be.
        """
        huge = {path for path in names if _pixels(path) > huge_from}
        places = {path: name.with_suffix(".tif") if path in huge else name for path, name in names.items()}
        todo = {path: name for path, name in places.items() if not self._finished(_image(name), name)}
        if self.areas is not None:
            anew = {_image(name) for name in todo.values()}
            self.areas.start(lambda image: image not in anew)
        small = {path: name for path, name in todo.items() if path not in huge}
        broken = []
        if small:
            broken += segment_images(
                small,
                self.label,
                self.pictures,
                folder=self.folder,
                batch_size=self.batch_size,
                areas=self.areas,
            )
        for path in (path for path in todo if path in huge):
            try:
                if refused:
                    raise UserError(refused)
                self._huge(path, todo[path], blocks)
            except UserError as error:
                broken.append(str(error) if str(path) in str(error) else f"{path}: {error}")
        return len(todo) - len(broken), broken

    def _huge(self, path: Path, name: Path, blocks: Blocks) -> None:
        if self.pictures.attention:
            raise UserError("attention is drawn of images up to huge.pixels; reduce it, or take attention out of save=")
        journal = self.folder.folder / "unfinished" / name.with_suffix(".blocks")
        files = self.folder.files(name, self.pictures.kinds)
        pixels = segment_huge(path, files, self.label, self.pictures, blocks=blocks, journal=journal)
        if self.areas is not None:
            self.areas.add(_image(name), pixels)
        with suppress(OSError):
            journal.parent.rmdir()  # when it is empty

    def video(self, source: Path | int, *, frames: int | None) -> tuple[int, str]:
        """A file that is not finished yet, or a camera; see ``segment_video``."""
        name = Path(f"camera{source}.mp4" if isinstance(source, int) else source.with_suffix(".mp4").name)
        files = self.folder.files(name, self.pictures.kinds)
        if isinstance(source, Path) and files and self._finished(f"{_image(name)}/000000", name):
            return 0, f"{source.name}: was segmented before"
        if self.areas is not None:
            self.areas.start(lambda image: not image.startswith(f"{_image(name)}/"))
        return segment_video(
            source, files, self.label, self.pictures, frames=frames, batch_size=self.batch_size, areas=self.areas
        )

    def _finished(self, image: str, name: Path) -> bool:
        noted = self.areas is None or image in self.areas.done
        return noted and self.folder.finished(name, self.pictures.kinds)


def _image(name: Path) -> str:
    """What an image is called in ``areas.csv``."""
    return name.with_suffix("").as_posix()


def _pixels(path: Path) -> int:
    height, width = stored_size(path) or (0, 0)
    return height * width
