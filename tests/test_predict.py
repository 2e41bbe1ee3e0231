"""Prediction as a user calls it: every source, every picture, and what is left when a run is killed."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from src.build import from_checkpoint
from src.cli.prepare import predict as prepare_predict
from src.commands import predict
from src.data.decoding import read_image
from src.data.sets.toy_streets import ToyStreets
from src.errors import UserError
from src.prediction import large_images, raster, still_images
from src.reports import pictures
from tests.conftest import SMALL, composed, save_untrained
from tests.data.test_decoding import tiff

SPACE = ToyStreets.label_space
NAMES = ("a", "b", "deep/c")
Predict = Callable[..., int]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of one size, one of them in a sub-folder."""
    scenes = ToyStreets(split="train", length=len(NAMES), height=48, width=80)
    for index, name in enumerate(NAMES):
        (tmp_path / f"photos/{name}").parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"photos/{name}.png"), scenes.read(index)[0][..., ::-1])
    return tmp_path / "photos"


@pytest.fixture
def call(untrained: Path, tmp_path: Path) -> Predict:
    def run(source: object, *overrides: str, out: str = "out", ckpt: Path | str = untrained) -> int:
        given = [f"ckpt={ckpt}", f"source='{source}'", f"out={tmp_path / out}", "device=cpu", *overrides]
        name, given = prepare_predict(given)
        return predict.predict(composed(name, *given))

    return run


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _files(folder: Path) -> dict[str, bytes]:
    """Name -> content of what was made; not of the notes on how."""
    files = (path for path in folder.rglob("*.*") if not (path.suffix.startswith(".json") or path.name == ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _areas(folder: Path) -> dict[str, list[int]]:
    with (folder / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({(row["image"], row["class"]) for row in rows}) == len(rows)
    assert {row["class"] for row in rows} == set(SPACE.names)
    return {
        name: [int(row["pixels"]) for row in rows if row["image"] == name] for name in {row["image"] for row in rows}
    }


def test_every_picture_shows_what_the_module_predicts(
    call: Predict, untrained: Path, photos: Path, tmp_path: Path
) -> None:
    assert call(photos, "save=[index,color,overlay,confidence,area]", "alpha=1.0") == 3
    module, areas = from_checkpoint.load_module(untrained), _areas(tmp_path / "out")
    assert set(areas) == set(NAMES)
    for name in NAMES:
        image = torch.from_numpy(read_image(photos / f"{name}.png")).permute(2, 0, 1)[None]
        label, confidence = (each[0].numpy() for each in module.label_and_confidence(image))
        assert np.array_equal(_read(tmp_path / f"out/index/{name}.png"), label)
        assert np.array_equal(_read(tmp_path / f"out/confidence/{name}.png"), confidence)
        for kind in ("color", "overlay"):
            assert np.array_equal(_read(tmp_path / f"out/{kind}/{name}.png")[..., ::-1], SPACE.palette[label])
        assert areas[name] == np.bincount(label.ravel(), minlength=len(SPACE.names)).tolist()


def test_a_run_folder_stands_for_the_weights_it_scored(
    call: Predict, untrained: Path, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run=1, first"
    with pytest.raises(UserError, match=r"run=1, first: holds no checkpoints/best\.ckpt"):
        (run / "checkpoints").mkdir(parents=True)
        call(photos, ckpt=f"'{run}'")
    shutil.copy(untrained, run / "checkpoints/best.ckpt")
    assert call(photos, ckpt=f"'{run}'", out="folder") == call(photos, out="file") == len(NAMES)
    assert _files(tmp_path / "folder") == _files(tmp_path / "file")


def test_images_in_batches_are_images_one_by_one(call: Predict, photos: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(photos / "aa.png"), np.zeros((40, 40, 3), np.uint8))  # between two of another size
    cv2.imwrite(str(photos / "tiny.png"), np.zeros((20, 20, 3), np.uint8))
    for batch_size in (1, 4):
        with pytest.raises(UserError, match=r"1 file was left out:\n.*tiny.png: "):
            call(photos, "save=index", "inference.multiple=1", f"batch_size={batch_size}", out=f"{batch_size}")
    one, four = ({name: _read(tmp_path / f"{n}/index/{name}.png") for name in (*NAMES, "aa")} for n in (1, 4))
    assert all(np.mean(one[name] == four[name]) > 0.999 for name in one)


def test_a_glob_and_the_pictures_of_an_earlier_run(call: Predict, photos: Path, tmp_path: Path) -> None:
    assert call(f"{tmp_path}/**/[ab].png", "save=[index]", out="photos/out") == 2
    assert set(_files(photos / "out")) == {"index/photos/a.png", "index/photos/b.png"}
    assert call(f"{tmp_path}/**/[ab].png", "save=[index]", out="photos/out") == 0  # not those in out=


def test_a_text_file_lists_images_from_anywhere(call: Predict, photos: Path, tmp_path: Path) -> None:
    (photos.parent / "lists").mkdir()
    listed = photos.parent / "lists/some.txt"
    listed.write_text(f"../photos/deep/c.png\n\n{photos}/a.png\n../photos/gone.png\n{photos}/a.png\n")
    with pytest.raises(UserError, match=r"1 file was left out:\n.*gone.png: file not found"):
        call(listed, "save=index")
    assert sorted(name for name in _files(tmp_path / "out")) == ["index/a.png", "index/deep/c.png"]
    listed.write_text("\n")
    with pytest.raises(UserError, match="lists no image"):
        call(listed)


def test_a_killed_run_goes_on_and_leaves_the_same_files(
    call: Predict, photos: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    options = ("save=[index,overlay,area]",)
    call(photos, *options, out="whole")

    def killed(path: Path, image: np.ndarray) -> None:
        if path == tmp_path / "out/overlay/b.png":  # others are written at the same time, and come later in areas.csv
            raise KeyboardInterrupt
        original(path, image)

    original = still_images.save_png
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(still_images, "save_png", killed)
        call(photos, *options)
    with (tmp_path / "out/areas.csv").open("a") as file:
        file.write("b,sky,")  # as it stands when a write is cut short
    first = (tmp_path / "out/index/a.png").stat().st_mtime_ns
    assert call(photos, *options) == 2
    assert "2 of 3 images segmented, 1 were before" in capsys.readouterr().out
    assert (tmp_path / "out/index/a.png").stat().st_mtime_ns == first
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    assert call(photos, *options) == 0
    assert call(photos, "save=[index,color,area]") == 3
    assert len(_areas(tmp_path / "out")) == 3


def test_predictions_of_two_kinds_do_not_mix(call: Predict, photos: Path, tmp_path: Path) -> None:
    call(photos / "a.png", "save=index")
    assert call(photos / "b.png", "save=index") == 1
    other = save_untrained(tmp_path / "other.ckpt", *SMALL, "model.net.dropout=0.3")
    with pytest.raises(UserError, match=r"out=.*made with another ckpt"):
        call(photos / "b.png", ckpt=other)
    with pytest.raises(UserError, match="made with another inference"):
        call(photos / "b.png", "inference=multiscale")


def test_a_full_disk_is_one_sentence(call: Predict, photos: Path, monkeypatch) -> None:
    def full(path: Path, image: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(still_images, "save_png", full)
    with pytest.raises(UserError, match=r"index/a.png: cannot be written .No space left.*same command again"):
        call(photos, "save=index")


def test_attention_is_drawn_of_nets_that_have_it(call: Predict, photos: Path, tmp_path: Path) -> None:
    attentive = save_untrained(tmp_path / "attentive.ckpt", *SMALL, "model/scales=hierarchical")
    image = cv2.resize(_read(photos / "a.png"), (120, 64))
    cv2.imwrite(str(photos / "a.png"), image)
    scales = "model.scales.scales=[0.5,1.0,2.0]"
    call(photos / "a.png", "save=[attention]", scales, ckpt=attentive)
    figure = _read(tmp_path / "out/attention/a.png")
    tile, strip, gap = (
        (4 * 64, 4 * 120),
        pictures.STRIP,
        pictures.GAP,
    )  # enlarged by a whole factor to 494 pixels at most
    assert figure.shape == (2 * (tile[0] + strip) + gap, 4 * tile[1] + 3 * gap, 3)
    with torch.no_grad():
        module = from_checkpoint.load_module(attentive)
        module.net.scales = (0.5, 1.0, 2.0)
        image = torch.from_numpy(read_image(photos / "a.png")).permute(2, 0, 1)[None]
        weights = module.net(module.normalize(image))["weights"][0].numpy()
    for index, each in enumerate(weights):
        top, left = tile[0] + 2 * strip + gap, (index + 1) * (tile[1] + gap)
        shown = figure[top : top + tile[0] : 4, left : left + tile[1] : 4]
        assert np.abs(shown - 255 * each[..., None]).max() <= 0.5 + 1e-3
    with pytest.raises(UserError, match=r"save=attention: the net .* has no attention over scales"):
        call(photos, "save=[attention]", out="none")


def _film(path: Path, *, count: int = 7, size: tuple[int, int] = (48, 80)) -> list[np.ndarray]:
    """Writes a video; returns its frames as a player decodes them."""
    scenes = ToyStreets(split="train", length=count, height=size[0], width=size[1])
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, size[::-1])
    for index in range(count):
        file.write(np.ascontiguousarray(scenes.read(index)[0][..., ::-1]))
    file.release()
    return _frames(path)


def _frames(path: Path) -> list[np.ndarray]:
    file, frames = cv2.VideoCapture(str(path)), []
    while (each := file.read())[0]:
        frames.append(each[1][..., ::-1])
    assert file.get(cv2.CAP_PROP_FPS) == 12.5
    return frames


def test_a_video_becomes_a_video(call: Predict, untrained: Path, tmp_path: Path, capsys) -> None:
    frames = _film(tmp_path / "film.mp4")
    assert call(tmp_path / "film.mp4", "save=[color,area]", "batch_size=3") == 7
    line = capsys.readouterr().out
    assert "film.mp4: 7 frames in " in line
    for word in ("frames/s", "decoding", "net", "encoding"):
        assert word in line
    shown, areas, module = (
        _frames(tmp_path / "out/color/film.mp4"),
        _areas(tmp_path / "out"),
        from_checkpoint.load_module(untrained),
    )
    assert len(shown) == 7
    for index, (frame, picture) in enumerate(zip(frames, shown, strict=True)):
        label = module.predict_label(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None])[0].numpy()
        assert np.abs(np.bincount(label.ravel(), minlength=11) - areas[f"film/{index:06d}"]).sum() < 8
        expected = SPACE.palette[label].astype(int)
        assert np.abs(picture - expected).mean() < 0.5 * np.abs(np.roll(picture, 9, 1) - expected).mean()  # lossy
    assert call(tmp_path / "film.mp4", "save=[color,area]") == 0
    assert call(tmp_path / "film.mp4", "frames=2", out="two") == 2
    assert len(_frames(tmp_path / "two/overlay/film.mp4")) == 2
    assert not list(tmp_path.rglob("*partial*"))


def test_a_broken_video_leaves_no_file(call: Predict, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(UserError, match=r"broken.mp4: video cannot be opened"):
        call(tmp_path / "broken.mp4")
    with pytest.raises(UserError, match="source=camera:97: camera cannot be opened"):
        call("camera:97", out="camera")
    _film(tmp_path / "film.mp4")
    with pytest.raises(UserError, match="overlay, color, area"):
        call(tmp_path / "film.mp4", "save=[index]")
    monkeypatch.setattr(from_checkpoint.SegmentationModule, "predict_label", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(tmp_path / "film.mp4")
    assert not [path for path in (tmp_path / "out").rglob("*") if "film" in path.name]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("save=[index,colour]", "colour.*is not among.*color.*"),
        ("huge.block=1000", "huge.block=1000 must be a multiple of 256"),
    ],
)
def test_impossible_options(call: Predict, photos: Path, option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(photos, option)


def _map(path: Path, size: tuple[int, int], **profile: object) -> np.ndarray:
    """Writes an image of blurred noise; returns it."""
    rasterio = pytest.importorskip("rasterio")
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 6)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    with rasterio.open(path, "w", width=size[1], height=size[0], count=3, dtype="uint8", **profile) as file:
        file.write(image.transpose(2, 0, 1))
    return image


BLOCKS = ("huge.pixels=100000", "huge.block=256", "huge.margin=32")
PLACE = {"crs": "EPSG:32632", "transform": (0.5, 0.0, 4e5, 0.0, -0.5, 5e6)}


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("kind", ["tiled.tif", pytest.param("rows.png", marks=pytest.mark.slow)])
def test_a_huge_image_is_killed_and_ends_with_the_same_files(
    call: Predict, tmp_path: Path, monkeypatch, kind: str
) -> None:
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "PNG"} if kind == "rows.png" else {"driver": "GTiff", "photometric": "RGB", **PLACE}
    profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128} if kind == "tiled.tif" else {}
    if "transform" in profile:
        profile["transform"] = rasterio.Affine(*PLACE["transform"])
    image = _map(tmp_path / kind, (300, 600), **profile)
    options = ("save=[index,color,overlay,confidence,area]", *BLOCKS)
    call(tmp_path / kind, *options, out="whole")
    seen = []

    def killed(self: large_images.Journal, content: bytes) -> None:
        if len(seen) == 2:
            self._file.write(content[:7])  # as it stands when a write is cut short
            raise KeyboardInterrupt
        seen.append(content)
        original(self, content)

    original = large_images.Journal.append
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(large_images.Journal, "append", killed)
        call(tmp_path / kind, *options)
    assert not list(tmp_path.glob("out/index/*"))
    with monkeypatch.context() as patch:
        patch.setattr(large_images.Journal, "append", lambda *each: seen.append(each[1]) or original(*each))
        assert call(tmp_path / kind, *options) == 1
    assert len(seen) == 2 * 3  # two blocks were not made again
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    name = kind.split(".")[0]
    with rasterio.open(tmp_path / f"out/index/{name}.tif") as file:
        label, palette = file.read(1), file.colormap(1)
        assert file.block_shapes == [(256, 256)]
        if kind != "rows.png":
            assert file.crs.to_epsg() == 32632
            assert tuple(file.transform)[:6] == PLACE["transform"]
    assert label.shape == (300, 600)
    assert len(np.unique(label)) > 1
    assert [palette[index][:3] for index in range(len(SPACE.names))] == [tuple(color) for color in SPACE.colors]
    with rasterio.open(tmp_path / f"out/overlay/{name}.tif") as file:
        mixed = cv2.addWeighted(image, 0.5, SPACE.palette[label], 0.5, 0)
        assert np.array_equal(file.read().transpose(1, 2, 0), mixed)
    assert _areas(tmp_path / "out") == {name: np.bincount(label.ravel(), minlength=len(SPACE.names)).tolist()}
    assert not (tmp_path / "out/unfinished").exists()


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_blocks_with_wide_margins_are_the_whole_image(call: Predict, tmp_path: Path) -> None:
    _map(tmp_path / "map.png", (300, 400), driver="PNG")
    call(tmp_path / "map.png", "save=[index,confidence]", out="whole")
    call(tmp_path / "map.png", "save=[index,confidence]", *BLOCKS[:2], "huge.margin=300")
    for kind in ("index", "confidence"):
        whole, blocks = _read(tmp_path / f"whole/{kind}/map.png"), tmp_path / f"out/{kind}/map.tif"
        assert np.array_equal(np.asarray(Image.open(blocks)), whole)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_file_that_does_not_hold_what_was_written_is_noticed(call: Predict, tmp_path: Path, monkeypatch) -> None:
    _map(tmp_path / "map.tif", (300, 400), driver="GTiff", tiled=True, blockxsize=256, blockysize=256)
    check = raster.RasterWriter.check

    def cut(self: raster.RasterWriter) -> None:
        self._path.write_bytes(self._path.read_bytes()[:-3000])
        check(self)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"index/map.tif: cannot be written"):
        patch.setattr(raster.RasterWriter, "check", cut)
        call(tmp_path / "map.tif", "save=[index]", *BLOCKS)
    assert not (tmp_path / "out/index/map.tif").exists()
    assert call(tmp_path / "map.tif", "save=[index]", *BLOCKS) == 1


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_what_is_no_image_by_blocks(call: Predict, tmp_path: Path, monkeypatch) -> None:
    _map(tmp_path / "map.png", (400, 400), driver="PNG")
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(tmp_path / "bands.tif", "w", driver="GTiff", width=400, height=400, count=7, dtype="uint8"):
        pass
    with pytest.raises(UserError, match=r"bands.tif: has 7 channels of uint8; nets here take RGB"):
        call(tmp_path / "bands.tif", *BLOCKS)
    whole = (tmp_path / "map.png").read_bytes()
    (tmp_path / "map.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"map.png: cannot be decoded as an image"):
        call(tmp_path / "map.png", *BLOCKS)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UserError, match="pip install rasterio"):
        call(tmp_path / "map.png", *BLOCKS)


@pytest.mark.parametrize(
    ("width", "height"), [(2**31 - 1, 2560), (2**31 - 1, 2**31 - 1), (2**32 - 1, 9), (b"abc", b"xyz"), (10**6, 10**6)]
)
def test_absurd_headers_end_in_one_line_that_names_the_file(
    call: Predict, tmp_path: Path, width: int | bytes, height: int | bytes
) -> None:
    pytest.importorskip("rasterio")
    (tmp_path / "odd.tif").write_bytes(tiff(width, height))
    with pytest.raises(UserError) as caught:
        call(tmp_path / "odd.tif", *BLOCKS)
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 file was left out:"
    assert len(lines) == 2
    assert "odd.tif: " in lines[1]
    assert "restore or remove it" in lines[1]


def test_blocks_cover_every_pixel_once() -> None:
    for height, width, margin in ((1, 1, 0), (255, 513, 64), (700, 300, 0), (1000, 1000, 300)):
        covered = np.zeros((height, width), int)
        for block in large_images.Blocks(256, margin).cover(height, width):
            covered[block.rows, block.columns] += 1
            rows, columns = np.mgrid[block.seen_rows, block.seen_columns]
            assert np.array_equal(block.of_seen(rows), np.mgrid[block.rows, block.columns][0])
            assert np.array_equal(block.of_seen(columns), np.mgrid[block.rows, block.columns][1])
            assert rows.shape == (min(height, 256 + 2 * margin), min(width, 256 + 2 * margin))
            for at, seen, side in ((block.rows, block.seen_rows, height), (block.columns, block.seen_columns, width)):
                assert min(at.start, margin) <= at.start - seen.start
                assert min(side - at.stop, margin) <= seen.stop - at.stop
        assert (covered == 1).all()
