"""Video files and cameras, read and written with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ..errors import UserError, printable
from ..files.atomic import whole_file
from .output_record import writing

__all__ = ["Capture", "Videos", "video_source"]

SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ogv", ".ts"}
_FRAMES_PER_SECOND = 25.0  # where the source does not know


def video_source(source: str) -> Path | int | None:
    """A video file, or the number of a camera (``0``, ``camera:0``); ``None`` for other sources."""
    number = source.removeprefix("camera:")
    if number.isdecimal() and not Path(source).exists():
        return int(number)
    return Path(source) if Path(source).suffix.lower() in SUFFIXES else None


class Capture:
    """Frames of a file or camera as (H,W,3) uint8 RGB; ``length`` is 0 where it is unknown."""

    def __init__(self, source: Path | int) -> None:
        self.live = isinstance(source, int)
        if isinstance(source, int):
            self._file = cv2.VideoCapture(source)
            odd = f"camera:{source}: camera cannot be opened; name one that is connected"
        elif source.is_file():
            self._file = cv2.VideoCapture(_utf8(source))
            odd = f"{source}: video cannot be opened; check that it plays, or convert it to H.264"
        else:
            raise UserError(f"source={source}: file not found; give a video that exists")
        if not self._file.isOpened():
            raise UserError(f"source={odd}")
        rate, length = (self._file.get(what) for what in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = rate if math.isfinite(rate) and 1 <= rate <= 1000 else _FRAMES_PER_SECOND
        self.length = 0 if self.live else max(0, int(length))

    def read(self) -> np.ndarray | None:
        """The next frame; ``None`` at the end."""
        there, frame = self._file.read()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if there else None

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.release()


class Videos:
    """MPEG-4 files that are opened with their first frame; they take their place when all are whole.

    OpenCV is silent about what it cannot write, so every file is read back before.

    Args:
        files: kind of picture -> its file.
        rate: frames per second.
    """

    def __init__(self, files: Mapping[str, Path], rate: float) -> None:
        self._files, self._rate = files, rate
        self._open: dict[str, tuple[cv2.VideoWriter, Path]] = {}
        self._frames = 0
        self._stack = ExitStack()

    def write(self, made: Mapping[str, np.ndarray]) -> None:
        """A frame of each kind, (H,W,3) uint8 RGB.

        Raises:
            UserError: if a file cannot be begun.
        """
        for kind, picture in made.items():
            if kind not in self._open:
                self._open[kind] = self._started(self._files[kind], picture)
            self._open[kind][0].write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def _started(self, file: Path, picture: np.ndarray) -> tuple[cv2.VideoWriter, Path]:
        self._stack.enter_context(writing(file))
        partial = self._stack.enter_context(whole_file(file))
        writer = cv2.VideoWriter(
            _utf8(partial), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, (picture.shape[1], picture.shape[0])
        )
        if not writer.isOpened():
            raise UserError(f"{file}: cannot be begun; OpenCV has no MPEG-4 encoder, or the disk is full")
        return writer, partial

    def __enter__(self) -> Videos:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer, _ in self._open.values():
            writer.release()
        with self._stack:  # removes the files if anything is raised
            if error is not None:
                raise error
            for name, (_, partial) in self._open.items():
                if (there := _decodable(partial)) != self._frames:
                    raise UserError(
                        f"{self._files[name]}: could not be written, only {there} of {self._frames} frames can be read"
                        " back; make room on its disk and give the same command again"
                    )


def _decodable(path: Path) -> int:
    """How many frames of a video file can be read."""
    file, count = cv2.VideoCapture(_utf8(path)), 0
    while file.grab():
        count += 1
    file.release()
    return count


def _utf8(path: Path) -> str:
    """The path for OpenCV, which opens no video of another encoding."""
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        raise UserError(f"{printable(path)}: OpenCV opens no video whose name is not UTF-8; rename it") from None
    return str(path)
