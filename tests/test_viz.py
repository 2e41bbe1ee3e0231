"""Pictures: colours land where the labels are, panels keep their size limits, files are whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from src.errors import printable
from src.reports import pictures

PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[:3] = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
CLASSES = SimpleNamespace(names=["road", "car", "sky"], colors=PALETTE[:3].tolist(), palette=PALETTE)


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _label(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3, (height, width), np.uint8)


def test_colorize_looks_up_each_pixel() -> None:
    picture = pictures.colorize(np.array([[0, 2], [255, 1]], np.uint8), PALETTE)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[200, 10, 10], [10, 10, 200]], [[0, 0, 0], [10, 200, 10]]]


def test_overlay_mixes_by_alpha_and_leaves_ignored_pixels() -> None:
    image, label = np.full((1, 2, 3), 100, np.uint8), np.array([[1, 255]], np.uint8)
    assert pictures.overlay(image, label, PALETTE, alpha=0.5).tolist() == [[[55, 150, 55], [100, 100, 100]]]
    assert pictures.overlay(image, label, PALETTE, alpha=0.0).tolist() == image.tolist()
    black = np.zeros_like(PALETTE)
    assert pictures.overlay(image, label, black, alpha=0.5).tolist() == image.tolist()  # it would only darken the image


def test_error_map_tells_correct_wrong_and_ignored_apart() -> None:
    label, prediction = np.array([[0, 1, 255, 255]], np.uint8), np.array([[0, 2, 1, 255]], np.uint8)
    ((correct, wrong, ignored, also_ignored),) = pictures.error_map(label, prediction).astype(int)
    assert wrong.max() > 200 > 60 > correct.max()
    assert np.ptp(ignored) < 20 and (ignored == also_ignored).all() and correct.max() < ignored.min() < wrong.max()


@pytest.mark.parametrize("size", [(24, 48), (128, 256), (360, 480), (1024, 2048), (700, 200)])
@pytest.mark.parametrize("labelled", [True, False])
def test_panel_stays_below_2000_pixels_and_enlarges_small_images(size: tuple[int, int], labelled: bool) -> None:
    label = _label(*size)
    picture = pictures.panel(_image(*size), label if labelled else None, label, CLASSES, name="a_long_name" * 9)
    columns = 4 if labelled else 3
    assert picture.dtype == np.uint8 and picture.ndim == 3
    assert 256 * columns <= picture.shape[1] <= 2000 or size == (700, 200)
    assert picture.shape[0] <= pictures.TILE + pictures.STRIP


def test_panel_enlarges_by_a_whole_factor_so_that_pixels_stay_exact() -> None:
    image, label = _image(40, 60), _label(40, 60)
    picture = pictures.panel(image, label, label, CLASSES, name="x")
    factor = pictures.TILE // 60
    column = picture[pictures.STRIP :, : 60 * factor]
    assert (column[factor // 2 :: factor, factor // 2 :: factor] == image).all()
    truth = picture[pictures.STRIP :, 60 * factor + pictures.GAP :][:, : 60 * factor]
    assert (truth[::factor, ::factor] == PALETTE[label]).all()


def test_panel_writes_the_miou_of_its_own_image(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    strip = pictures.caption
    monkeypatch.setattr(pictures, "caption", lambda text, width: written.append(text) or strip(text, width))
    label = np.array([[0, 0, 1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 0, 2]], np.uint8)  # road 2/3, car 1/2; sky only where it is ignored
    pictures.panel(_image(1, 5), label, prediction, CLASSES, name="street")
    assert written == ["street", "truth", "prediction   mIoU 58.3 %", "errors   25.0 %"]


def test_panel_without_a_valid_pixel_is_still_drawn() -> None:
    label = np.full((8, 8), 255, np.uint8)
    assert pictures.panel(_image(8, 8), label, _label(8, 8), CLASSES, name="void").size


def test_stack_rows_pads_narrow_rows() -> None:
    stacked = pictures.stack_rows([np.full((4, 10, 3), 9, np.uint8), np.full((5, 7, 3), 8, np.uint8)])
    assert stacked.shape == (4 + pictures.GAP + 5, 10, 3)
    assert (stacked[-5:, :7] == 8).all() and (stacked[-5:, 7:] == pictures.BACKGROUND).all()


@pytest.mark.parametrize("count", [1, 19, 150])
@pytest.mark.parametrize("width", [60, 1000])
def test_legend_shows_every_colour_within_the_width(count: int, width: int) -> None:
    colors = np.random.default_rng(2).integers(0, 256, (count, 3)).tolist()
    strip = pictures.legend([f"class {i}" for i in range(count)], colors, width)
    assert strip.shape[1] == width
    pixels = strip.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1])
    assert np.isin(np.array(colors) @ np.array([1 << 16, 1 << 8, 1]), pixels).all()


def test_caption_shortens_from_the_front() -> None:
    long, other_front, other_end = (
        pictures.caption(text, 120)
        for text in ("x" * 500 + "_tail", "y" * 400 + "x" * 100 + "_tail", "x" * 500 + "_head")
    )
    assert long.shape == (pictures.STRIP, 120, 3)
    assert (long == other_front).all()
    assert (long != other_end).any()
    assert not np.array_equal(pictures.caption("short", 200), pictures.caption("shirt", 200))


def test_save_png_keeps_pixels_makes_folders_and_leaves_no_partial_file(tmp_path: Path) -> None:
    image, path = _image(9, 7), tmp_path / "deep" / "straße.png"
    pictures.save_png(path, image)
    pictures.save_png(path, image)
    stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (stored == image).all()
    assert [file.name for file in path.parent.iterdir()] == ["straße.png"]


def test_captions_of_names_that_are_no_text() -> None:
    for name in ("a\udcffb", "a\nb\x1b"):  # OpenCV would end the process
        assert np.array_equal(pictures.caption(name, 200), pictures.caption(printable(name), 200))
