"""Video files and cameras, read and written with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError
from src.prediction.folder import writing

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
        if not self.live and not source.is_file():
            raise UserError(f"source={source}: file not found; give a video that exists")
        self._file = cv2.VideoCapture(source if self.live else str(source))
        if not self._file.isOpened():
            if self.live:
                raise UserError(f"source=camera:{source}: camera cannot be opened; name one that is connected")
            raise UserError(f"source={source}: video cannot be opened; check that it plays, or convert it to H.264")
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
    """MPEG-4 files that are opened with their first frame and take their place when all are whole."""

    def __init__(self, files: Mapping[str, Path], rate: float) -> None:
        self._files, self._rate = files, rate
        self._open: dict[str, cv2.VideoWriter] = {}

    def write(self, made: Mapping[str, np.ndarray]) -> None:
        for kind, picture in made.items():
            if kind not in self._open:
                self._open[kind] = self._started(kind, picture)
            self._open[kind].write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _partial(self, kind: str) -> Path:
        return self._files[kind].with_name(f".partial.{self._files[kind].name}")

    def _started(self, kind: str, picture: np.ndarray) -> cv2.VideoWriter:
        partial = self._partial(kind)
        with writing(self._files[kind]):
            partial.parent.mkdir(parents=True, exist_ok=True)
            file = cv2.VideoWriter(
                str(partial), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, (picture.shape[1], picture.shape[0])
            )
            if not file.isOpened():
                raise OSError("OpenCV has no MPEG-4 encoder, or the place is not writable")
        return file

    def __enter__(self) -> Videos:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name, file in self._open.items():
            file.release()
            if kind is None:
                self._partial(name).replace(self._files[name])
            else:
                self._partial(name).unlink(missing_ok=True)
