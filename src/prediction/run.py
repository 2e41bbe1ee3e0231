"""One prediction: segments the images, ordinary or large, or the video that are not finished yet."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .large_images import Blocks, segment_huge, stored_size
from .output_folder import OutputFolder, image_key
from .outputs import AREAS, Areas, Task
from .still_images import segment_images
from .video import segment_video

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """Writes the outputs of ``task`` into ``folder``, and resumes what an earlier run began there."""

    task: Task
    folder: OutputFolder

    def images(
        self, names: Mapping[Path, Path], *, huge_from: int, blocks: Blocks, refused: str | None = None
    ) -> tuple[int, list[str]]:
        """Segments ordinary images first, then large ones.

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
        places = {path: self.folder.own_name(path, name) for path, name in places.items()}
        self.folder.check(places, self.task.pictures.kinds)
        todo = {path: name for path, name in places.items() if not self._finished(path, name, image_key(name))}
        self._start(todo)
        broken = []
        if small := {path: name for path, name in todo.items() if path not in huge}:
            broken = segment_images(small, self.task, self.folder)
        for path in (path for path in todo if path in huge):
            try:
                if refused:
                    raise UserError(refused)
                self._huge(path, todo[path], blocks)
            except UserError as error:
                broken.append(str(error) if str(path) in str(error) else f"{path}: {error}")
        return len(todo) - len(broken), broken

    def _huge(self, path: Path, name: Path, blocks: Blocks) -> None:
        if self.task.pictures.attention:
            raise UserError("attention is drawn of images up to huge.pixels; reduce it, or take attention out of save=")
        journal = self.folder.folder / "unfinished" / name.with_suffix(".blocks")
        files = self.folder.files(name, self.task.pictures.kinds)
        pixels = segment_huge(path, files, self.task, blocks=blocks, journal=journal)
        if self.task.areas is not None:
            self.task.areas.add(image_key(name), pixels)
        self.folder.finish(name)
        with suppress(OSError):
            journal.parent.rmdir()  # when it is empty

    def video(self, source: Path | int, *, frames: int | None) -> tuple[int, str]:
        """Segments a file that is not finished yet, or a camera; see ``segment_video``."""
        name = Path(f"camera{source}.mp4" if isinstance(source, int) else source.with_suffix(".mp4").name)
        if isinstance(source, Path):
            name = self.folder.own_name(source, name)
        self.folder.check({Path(str(source)): name}, self.task.pictures.kinds)
        files, key = self.folder.files(name, self.task.pictures.kinds), image_key(name)
        if isinstance(source, Path):
            if self._finished(source, name, f"{key}/000000"):
                return 0, f"{source.name}: was segmented before"
            self._start({source: name}, frames=True)
        elif self.task.areas is not None:
            self.task.areas.start(lambda image: not image.startswith(f"{key}/"))
        result = segment_video(source, files, self.task, frames=frames, key=key)
        if isinstance(source, Path):
            self.folder.finish(name)
        return result

    def _finished(self, source: Path, name: Path, image: str) -> bool:
        """Whether all pictures of a source are written, and its areas, whose rows ``image`` names."""
        noted = self.task.areas is None or image in self.task.areas.done
        return self.folder.finished(source, name, self.task.pictures.kinds) and noted

    def _start(self, todo: Mapping[Path, Path], *, frames: bool = False) -> None:
        """Removes the rows that will be written again, and every output of a source that was replaced since.

        Args:
            todo: source -> name of its pictures.
            frames: it is a video, which has rows for its frames.
        """
        replaced = {path: name for path, name in todo.items() if self.folder.replaced(path, name)}
        for name in replaced.values():
            self.folder.remove(name)
        areas, again = self.task.areas, todo
        table = self.folder.folder / AREAS
        if areas is None and replaced and table.is_file():  # an earlier run was asked for areas, this one is not
            areas, again = Areas(table, self.task.pictures.classes.names), replaced
        if areas is not None:
            keys = {image_key(name) for name in again.values()}
            areas.start(lambda image: (image.rpartition("/")[0] if frames else image) not in keys)


def _pixels(path: Path) -> int:
    height, width = stored_size(path) or (0, 0)
    return height * width
