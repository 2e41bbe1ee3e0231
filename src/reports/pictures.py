"""Pictures of label maps with OpenCV: numpy in, numpy out, RGB throughout.

Every picture is (H,W,3) uint8 RGB. Labels and predictions are (H,W) uint8 train ids, 255 = ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ..errors import printable
from ..files.atomic import write_bytes

__all__ = [
    "Classes",
    "caption",
    "colorize",
    "error_map",
    "legend",
    "overlay",
    "panel",
    "reduced",
    "row",
    "save_png",
    "stack_rows",
]

BACKGROUND = (24, 26, 30)
INK = (226, 228, 232)
CORRECT, WRONG, IGNORED = (38, 42, 48), (255, 92, 51), (122, 126, 132)
GAP = 6  # pixels between columns and between rows
TILE = 494  # longest side of one picture in a panel: four of them and the gaps stay below 2000 pixels
STRIP = 36  # height of a caption and of a legend row, to be read where a page shows a panel at half its size
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.7


class Classes(Protocol):
    """What pictures, charts and tables need to know about classes; a ``LabelSpace`` is one.

    ``names`` and ``colors`` (RGB, 0..255) are in train-id order, and so are ``categories``, where there are any;
    ``palette`` is the (256,3) uint8 look-up table.
    """

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def colors(self) -> Sequence[Sequence[int]]: ...

    @property
    def palette(self) -> np.ndarray: ...

    @property
    def categories(self) -> Sequence[str] | None: ...


def colorize(label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H,W) uint8 train ids -> picture, by the (256,3) uint8 look-up table ``palette``."""
    return palette[label]


def overlay(image: np.ndarray, label: np.ndarray, palette: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """Image with its label map on top: ``alpha`` (0..1) is the weight of the colours.

    Ignored pixels stay image, and so do those of black classes, most often the background: black would only darken it.
    """
    colors = colorize(label, palette)
    painted = (label != 255) & colors.any(-1)
    return np.where(painted[..., None], cv2.addWeighted(image, 1 - alpha, colors, alpha, 0), image)


def error_map(label: np.ndarray, prediction: np.ndarray, ignore_index: int = 255) -> np.ndarray:
    """Where the prediction is wrong: bright for wrong, dark for correct, grey for ignored pixels."""
    state = np.where(label == ignore_index, 2, label != prediction)
    return np.array([CORRECT, WRONG, IGNORED], np.uint8)[state]


def panel(
    image: np.ndarray,
    label: np.ndarray | None,
    prediction: np.ndarray,
    classes: Classes,
    *,
    name: str,
    ignore_index: int = 255,
) -> np.ndarray:
    """One captioned row: image, truth, prediction, errors; without a label: image, prediction, overlay.

    Small pictures are enlarged by a whole factor, large ones reduced, so that the row is at most 2000 pixels wide.

    Args:
        image: (H,W,3) uint8 RGB.
        label: (H,W) uint8 train ids, or ``None`` where there is no truth.
        prediction: (H,W) uint8 train ids.
        classes: colours of the classes.
        name: goes over the image.
        ignore_index: label value that counts neither as right nor as wrong.
    """
    predicted = colorize(prediction, classes.palette)
    if label is None:
        columns = {name: image, "prediction": predicted, "overlay": overlay(image, prediction, classes.palette)}
    else:
        valid = label != ignore_index
        wrong = (label != prediction)[valid].mean() if valid.any() else np.nan
        miou = _mean_iou(label[valid], prediction[valid])
        columns = {
            name: image,
            "truth": colorize(label, classes.palette),
            f"prediction   mIoU {100 * miou:.1f} %": predicted,
            f"errors   {100 * wrong:.1f} %": error_map(label, prediction, ignore_index),
        }
    return row(columns)


def reduced(picture: np.ndarray, side: int, *, mix: bool = True) -> np.ndarray:
    """A picture or label map whose longest side is at most ``side``; ``mix=False`` keeps to the values it has."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if mix else cv2.INTER_NEAREST)


def row(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side, each under its caption.

    Small ones are enlarged by a whole factor, large ones reduced to a longest side of 494 pixels.
    """
    tiles = [(text, _fit(picture)) for text, picture in columns.items()]
    tiles = [np.vstack([caption(text, tile.shape[1]), tile]) for text, tile in tiles]
    gap = _blank(tiles[0].shape[0], GAP)
    return np.hstack([part for tile in tiles for part in (gap, tile)][1:])


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below one another with a gap, the narrower ones padded on the right."""
    width = max(row.shape[1] for row in rows)
    padded = [np.hstack([row, _blank(row.shape[0], width - row.shape[1])]) for row in rows]
    return np.vstack([part for row in padded for part in (_blank(GAP, width), row)][1:])


def legend(names: Sequence[str], colors: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """Swatches with class names in a grid ``width`` pixels wide, as high as it needs to be.

    Args:
        names: class names.
        colors: one RGB triple (0..255) per class.
        width: in pixels.
    """
    swatch = STRIP - 10
    cell = min(width, max(_text_width(name) for name in names) + swatch + 28)
    per_row = width // cell
    strip = _blank(-(-len(names) // per_row) * STRIP, width)
    for index, (name, color) in enumerate(zip(names, colors, strict=True)):
        top, left = index // per_row * STRIP + 5, index % per_row * cell + 6
        cv2.rectangle(strip, (left, top), (left + swatch, top + swatch), tuple(map(int, color)), cv2.FILLED)
        cv2.rectangle(strip, (left, top), (left + swatch, top + swatch), IGNORED, 1)  # dark colours need an edge
        _write(strip, name, left + swatch + 7, top - 5, cell - swatch - 14)
    return strip


def caption(text: str, width: int) -> np.ndarray:
    """A strip of ``width`` pixels with one line of text, shortened from its front where it does not fit."""
    strip = _blank(STRIP, width)
    _write(strip, text, 6, 0, width - 8)
    return strip


def save_png(path: Path, image: np.ndarray) -> None:
    """Write (H,W,3) uint8 RGB or (H,W) uint8 indices as PNG; a reader never meets a half-written file."""
    _, content = cv2.imencode(".png", image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_bytes(path, content.tobytes())


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _fit(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = TILE / max(height, width)
    if scale >= 1:
        size = (width * int(scale), height * int(scale))
        return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    return reduced(picture, TILE)


def _mean_iou(label: np.ndarray, prediction: np.ndarray) -> float:
    """Mean over the classes of this one image, those in neither label nor prediction left out."""
    matrix = np.bincount(label.astype(np.intp) * 256 + prediction, minlength=256 * 256).reshape(256, 256)
    hit = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return float((hit[union > 0] / union[union > 0]).mean()) if label.size else float("nan")


def _text_width(text: str) -> int:
    return cv2.getTextSize(printable(text), _FONT, _FONT_SCALE, 1)[0][0]


def _write(canvas: np.ndarray, text: str, left: int, top: int, room: int) -> None:
    """Draw one line in a strip that begins at ``top``; the end of a file name says more than its beginning."""
    text = printable(text)  # OpenCV ends the process at a name that is not UTF-8
    shown, cut = text, 0
    while cut < len(text) and _text_width(shown) > room:
        cut += 1
        shown = "..." + text[cut:]
    cv2.putText(canvas, shown, (left, top + STRIP - 9), _FONT, _FONT_SCALE, INK, 1, cv2.LINE_AA)
