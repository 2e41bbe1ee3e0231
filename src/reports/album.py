"""Pictures of a run as data URIs, until a page is full."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..files.run_files import LATEST_PANEL, WORST, WORST_IMAGES
from ..files.untrusted import MiB, read_bytes

__all__ = ["Album", "Picture", "data_uri"]

_QUALITY = 85
_LARGEST = 256 * MiB  # of a file
_MOST_PIXELS = 2**27
_PER_CLASS = 40  # pictures of single classes


@dataclass(frozen=True)
class Picture:
    """An image for a page; ``uri`` holds its content."""

    uri: str
    title: str
    width: int
    height: int


@dataclass
class Album:
    """Takes pictures from a run folder as long as there is room in the page.

    Args:
        folder: of the run.
        room: characters that all data URIs may take together.
        left_out: pictures that found no room.
    """

    folder: Path
    room: int = 3_600_000
    left_out: list[Path] = field(default_factory=list)

    def validation(self) -> list[Picture]:
        """The newest panel of fixed validation images."""
        return self._take([self.folder / LATEST_PANEL], "latest", "fixed validation images")

    def worst_images(self) -> list[Picture]:
        """Those of lowest mean IoU, the lowest first."""
        found = (self.folder / WORST_IMAGES).glob("*_miou_*.png")
        ranks = {path: path.name.split("_")[0] for path in found}
        ranked = sorted((path for path in ranks if ranks[path].isdecimal()), key=lambda path: int(ranks[path]))
        return self._take(ranked, r"(\d+)_miou_([\d.]+)_(.*)", "{2}: mean IoU {1} %")

    def worst_of_classes(self) -> list[Picture]:
        """The worst image of each class."""
        found = sorted(self.folder.glob(f"{WORST}/*/1_iou_*.png"))[:_PER_CLASS]
        return self._take(found, r"(\d+)_iou_([\d.]+)_(.*)", "{folder} in {2}: IoU {1} %")

    def _take(self, paths: list[Path], pattern: str, title: str) -> list[Picture]:
        taken = []
        for path in paths:
            image = _decoded(path) if path.exists() else None
            if image is None:
                continue
            uri = data_uri(image)
            if len(uri) > self.room:
                self.left_out.append(path.relative_to(self.folder))
                continue
            self.room -= len(uri)
            found = re.fullmatch(pattern, path.stem)
            words = title.format(*found.groups(), folder=path.parent.name) if found else path.stem
            taken.append(Picture(uri, words, image.shape[1], image.shape[0]))
        return taken


def _decoded(path: Path) -> np.ndarray | None:
    """(H,W,3) uint8 BGR of a PNG that a page can show; ``None`` for what is being written, or is none."""
    content = read_bytes(path, _LARGEST, remedy="remove it")
    width, height = (int.from_bytes(content[place : place + 4]) for place in (16, 20))
    if not content.startswith(b"\x89PNG") or not 0 < width * height <= _MOST_PIXELS:
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def data_uri(image: np.ndarray, *, exact: bool = False) -> str:
    """(H,W,3) uint8 BGR as PNG if ``exact``, else as JPEG of full colour resolution, as thin classes need it."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [] if exact else [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, content = cv2.imencode(".png" if exact else ".jpg", image, options)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(content.tobytes()).decode()}"
