"""Where commands write: below ``out=``, never onto an input, whole or not at all, one at a time, of known sources."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.errors import UserError, printable
from src.files.atomic import locked
from src.files.images import find_images
from src.files.output_paths import check_output_file
from src.prediction.video_files import Capture
from tests import conftest
from tests.conftest import files_of_at_most
from tests.test_predict import _film, _frames

Command = Callable[..., str]


@pytest.fixture
def call(untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``predict`` or ``autolabel`` into ``tmp_path/out``; returns what it printed, or the error it ended with."""

    def run(source: object, *overrides: str, entry: str = "predict", fails: bool = False) -> str:
        quick = ["save=[index]"] if entry == "predict" else ["inference=single"]
        given = [f"ckpt={untrained}", f"source='{source}'", f"out={tmp_path}/out", "device=cpu", *quick, *overrides]
        capsys.readouterr()
        try:
            conftest.call(entry, *given)
        except SystemExit as error:
            printed = capsys.readouterr()
            assert fails and error.code == 1 and "Traceback" not in printed.err, printed.err
            return printed.err[printed.err.index("error: ") :]
        assert not fails
        return capsys.readouterr().out

    return run


def _image(path: Path | bytes, *, seed: int = 0, size: tuple[int, int] = (40, 48)) -> Path:
    path = Path(os.fsdecode(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(array).save(path, format="JPEG" if path.suffix == ".jpg" else "PNG")
    return path


def _pictures(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("entry", ["predict", pytest.param("autolabel", marks=pytest.mark.slow)])
def test_lists_that_climb_stay_below_out(call: Command, tmp_path: Path, entry: str) -> None:
    images = [
        _image(tmp_path / f"data/{name}.png", seed=i) for i, name in enumerate(("imgs/p", "lists/p", "lists/t/p"))
    ]
    before = [image.read_bytes() for image in images]
    (tmp_path / "data/lists/t/l.txt").write_text("p.png\n../p.png\n../../imgs/p.png\n")
    assert "3 of 3 images" in call(tmp_path / "data/lists/t/l.txt", entry=entry)
    base = tmp_path / "out" / ("index" if entry == "predict" else ".")
    wanted = {"imgs/p.png", "lists/p.png", "lists/t/p.png"}
    assert {name for name in _pictures(base) if "_prob" not in name} == wanted
    assert [image.read_bytes() for image in images] == before


def test_globs_that_climb_stay_below_out(call: Command, tmp_path: Path) -> None:
    image = _image(tmp_path / "photos/deep/../a.png")
    (tmp_path / "photos/deep").mkdir(exist_ok=True)
    call(f"{tmp_path}/photos/de*/../../photos/a.png")
    assert _pictures(tmp_path / "out") == {"index/a.png"}
    assert image.is_file()


def test_own_pictures_are_never_segmented(call: Command, tmp_path: Path) -> None:
    _image(tmp_path / "photos/a.png")
    assert "1 of 1 images segmented" in call(tmp_path / "photos", f"out={tmp_path}/photos")
    line = call(tmp_path / "photos", f"out={tmp_path}/photos")
    assert "1 pictures of earlier predictions are left out" in line and "0 of 1 images segmented, 1 were" in line
    assert "1 of 1 images segmented" in call(tmp_path / "photos")  # nor into another folder
    line = call(tmp_path / "photos/index", f"out={tmp_path}/photos", fails=True)
    assert "nothing but pictures of earlier predictions" in line
    assert _pictures(tmp_path / "photos") == {"a.png", "index/a.png"}


def test_what_others_wrote_is_not_overwritten(call: Command, tmp_path: Path) -> None:
    image = _image(tmp_path / "data/index/a.png")
    before = image.read_bytes()
    _image(tmp_path / "data/a.png", seed=1)
    line = call(tmp_path / "data", f"out={tmp_path}/data", fails=True)
    assert "holds files that src.predict did not write, such as index/a.png" in line
    assert image.read_bytes() == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes.txt").write_text("mine")
    line = call(tmp_path / "data", entry="autolabel", fails=True)
    assert "holds files that src.autolabel did not write, such as classes.txt" in line
    assert (tmp_path / "out/classes.txt").read_text() == "mine"


def test_links_do_not_lead_out_of_out(call: Command, tmp_path: Path) -> None:
    image = _image(tmp_path / "photos/deep/a.png")
    before = image.read_bytes()
    for entry, folder in (("predict", "out/index"), ("autolabel", "out")):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "deep").symlink_to(tmp_path / "photos/deep")
        assert "leads out of out=" in call(tmp_path / "photos", entry=entry, fails=True)
    shutil.rmtree(tmp_path / "out")
    call(tmp_path / "photos")
    for name in ("a.png", ".partial.a.png"):
        (tmp_path / "out/index/deep" / name).unlink(missing_ok=True)
        (tmp_path / "out/index/deep" / name).symlink_to(image)
    (tmp_path / "out/.lock").symlink_to(image)
    call(tmp_path / "photos", fails=True)
    (tmp_path / "out/.lock").unlink()
    (tmp_path / "out/sources.jsonl").unlink()
    os.utime(image)  # newer than what the link shows
    assert "1 of 1 images segmented" in call(tmp_path / "photos")
    assert image.read_bytes() == before


@pytest.mark.parametrize("entry", ["predict", pytest.param("autolabel", marks=pytest.mark.slow)])
def test_a_replaced_image_is_made_again(call: Command, tmp_path: Path, entry: str) -> None:
    _image(tmp_path / "photos/a.png")
    _image(tmp_path / "photos/b.png")
    everything = ["save=[index,color,area]"] if entry == "predict" else []
    call(tmp_path / "photos", *everything, entry=entry)
    made = next(path for path in (tmp_path / "out").rglob("a.png"))
    first = made.read_bytes()
    _image(tmp_path / "photos/a.png", seed=5)
    os.utime(tmp_path / "photos/a.png", (1, 1))  # older, and of the same size in pixels
    assert "1 of 2 images" in call(tmp_path / "photos", entry=entry)
    assert made.read_bytes() != first
    assert "0 of 2 images" in call(tmp_path / "photos", entry=entry)
    if entry == "predict":  # what shows the former image is not left in other folders
        assert not (tmp_path / "out/color/a.png").exists()
        assert {row[0] for row in csv.reader((tmp_path / "out/areas.csv").open())} == {"image", "b"}
        assert "1 of 2 images" in call(tmp_path / "photos", *everything)
        assert {row[0] for row in csv.reader((tmp_path / "out/areas.csv").open())} == {"image", "a", "b"}


def test_two_images_of_one_stem_are_both_kept(call: Command, tmp_path: Path) -> None:
    images = [_image(tmp_path / "photos/a.png"), _image(tmp_path / "photos/a.jpg", seed=1)]
    for image in images:
        assert "1 of 1 images segmented" in call(image)
    for image in images:
        assert "0 of 1 images segmented, 1 were before" in call(image)
    assert _pictures(tmp_path / "out") == {"index/a.png", "index/a.jpg.png"}
    _image(tmp_path / "photos/a.png.png")
    line = call(tmp_path / "photos", f"out={tmp_path}/all", fails=True)
    assert "their results would get one name, a.png.png; rename one" in line


def test_two_images_of_one_stem_have_no_common_label(call: Command, tmp_path: Path) -> None:
    images = [_image(tmp_path / "photos/a.png"), _image(tmp_path / "photos/a.jpg", seed=1)]
    call(images[0], entry="autolabel")
    assert "a.jpg: its label would overwrite that of a.png; rename" in call(images[1], entry="autolabel", fails=True)
    images[0].unlink()
    assert "1 of 1 images labelled" in call(images[1], entry="autolabel")  # the former image is gone
    assert "0 of 1 images labelled" in call(images[1], entry="autolabel")


def test_folders_of_earlier_versions_go_on(call: Command, tmp_path: Path) -> None:
    for entry, manifest, key in (("predict", "predict.json", "made_with"), ("autolabel", "autolabel.json", "teacher")):
        for name in "ab":
            _image(tmp_path / f"photos/{name}.png")
        out = tmp_path / entry
        call(tmp_path / "photos", f"out={out}", entry=entry)
        (out / "sources.jsonl").unlink()
        content = json.loads((out / manifest).read_text())
        (out / manifest).write_text(json.dumps({key: content["made_with"], "environment": {}}))
        assert "0 of 2 images" in call(tmp_path / "photos", f"out={out}", entry=entry)
        (out / "sources.jsonl").unlink()
        later = (tmp_path / "photos/b.png").stat().st_mtime + 100
        os.utime(tmp_path / "photos/b.png", (later, later))
        assert "1 of 2 images" in call(tmp_path / "photos", f"out={out}", entry=entry)


@pytest.mark.parametrize("entry", ["predict", pytest.param("autolabel", marks=pytest.mark.slow)])
def test_broken_notes_are_one_line(call: Command, tmp_path: Path, entry: str) -> None:
    call(_image(tmp_path / "photos/a.png"), entry=entry)
    for content in (b"{", b"[]", b'"x"', b'{"made_with": 3}', b"\xff", b"[" * 100_000):
        (tmp_path / f"out/{entry}.json").write_bytes(content)
        line = call(tmp_path / "photos/a.png", entry=entry, fails=True)
        assert f"{entry}.json: is broken" in line and line.count("\n") == 1


def test_a_broken_record_is_one_line_and_a_cut_one_goes_on(call: Command, tmp_path: Path) -> None:
    _image(tmp_path / "photos/a.png")
    call(tmp_path / "photos")
    record = tmp_path / "out/sources.jsonl"
    whole = record.read_bytes()
    record.write_bytes(whole + whole[:-9])
    assert "0 of 1 images" in call(tmp_path / "photos")
    assert record.read_bytes() == whole
    for line in (b"{}\n", b'["a"]\n', b'["a", "a.png", "1", 2]\n', b"[" * 100_000 + b"\n"):
        record.write_bytes(line + whole)
        assert "sources.jsonl: line 1 is broken; remove this file" in call(tmp_path / "photos", fails=True)
    record.unlink()
    (tmp_path / "out/areas.csv").write_text("x" * 200_000)  # longer than the csv module reads
    assert "areas.csv: is broken" in call(tmp_path / "photos", "save=[index,area]", fails=True)


@pytest.mark.parametrize("entry", ["predict", pytest.param("autolabel", marks=pytest.mark.slow)])
def test_two_writers_are_one_too_many(call: Command, tmp_path: Path, entry: str) -> None:
    image = _image(tmp_path / "photos/a.png")
    with locked(tmp_path / "out", "writing to it"):
        assert "out: another process is writing to it" in call(tmp_path / "photos", entry=entry, fails=True)
    assert "1 of 1" in call(image.parent, entry=entry)


def test_a_video_that_could_not_be_written_is_none(call: Command, tmp_path: Path) -> None:
    _film(tmp_path / "film.mp4", count=30, size=(96, 160))
    with files_of_at_most(20_000):
        line = call(tmp_path / "film.mp4", "save=[overlay]", fails=True)
    assert "overlay/film.mp4: c" in line and "make room" in line
    assert [path.name for path in (tmp_path / "out/overlay").iterdir()] == []
    assert "30 frames" in call(tmp_path / "film.mp4", "save=[overlay]")
    assert len(_frames(tmp_path / "out/overlay/film.mp4")) == 30


def test_two_videos_of_one_stem_and_a_replaced_one(call: Command, tmp_path: Path) -> None:
    _film(tmp_path / "film.mp4", count=3)
    shutil.copy(tmp_path / "film.mp4", tmp_path / "film.mov")
    for name in ("film.mp4", "film.mov"):
        assert "3 frames" in call(tmp_path / name, "save=[color,area]")
    for name in ("film.mp4", "film.mov"):
        assert "was segmented before" in call(tmp_path / name, "save=[color,area]")
    assert {path.name for path in (tmp_path / "out/color").iterdir()} == {"film.mp4", "film.mov.mp4"}
    _film(tmp_path / "film.mp4", count=2)
    assert "2 frames" in call(tmp_path / "film.mp4", "save=[color,area]")
    rows = [row[0] for row in csv.reader((tmp_path / "out/areas.csv").open())]
    assert set(rows) == {"image", *(f"film/00000{i}" for i in range(2)), *(f"film.mov/00000{i}" for i in range(3))}


def test_a_video_that_cannot_be_opened_leaves_no_folder(call: Command, tmp_path: Path) -> None:
    assert "file not found" in call(tmp_path / "gone.mp4", "save=[overlay]", fails=True)
    assert not (tmp_path / "out").exists()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xff.mp4"))
    _film(tmp_path / "film.mp4", count=2)
    (tmp_path / "film.mp4").rename(odd)
    with pytest.raises(UserError, match=r"f\\xff.mp4: OpenCV opens no video whose name is not UTF-8"):
        Capture(odd)


def test_a_full_disk_leaves_no_part_of_a_picture(call: Command, tmp_path: Path) -> None:
    _image(tmp_path / "photos/a.png", size=(300, 300))
    for entry, options in (("predict", ["save=[overlay]"]), ("autolabel", [])):
        given = [f"out={tmp_path}/{entry}", *options]
        with files_of_at_most(6000):
            line = call(tmp_path / "photos", *given, entry=entry, fails=True)
        assert "cannot be written (File too large)" in line and "give the same command again" in line
        assert _pictures(tmp_path / entry) <= {"a.png"}  # a label without its confidence, which is no finished pair
        assert "1 of 1" in call(tmp_path / "photos", *given, entry=entry)


ODD = [
    b"a\xffb",
    b"two\nlines",
    b"cr\rcr",
    b"\x1b[31mred",
    b"=cmd|' C calc'!A0",
    b"'=x",
    b"+1",
    b"@x",
    "Ü北".encode(),
    b"n" * 251,
]


@pytest.mark.parametrize("entry", ["predict", pytest.param("autolabel", marks=pytest.mark.slow)])
def test_odd_names(call: Command, tmp_path: Path, entry: str) -> None:
    names = [name[:246] if entry == "autolabel" else name for name in ODD]
    for name in names:
        _image(os.fsencode(tmp_path) + b"/photos/" + name + b".png")
    _image(tmp_path / "photos/._a.png").write_bytes(b"what macOS leaves")
    options = ["save=[index,area]"] if entry == "predict" else []
    assert f"{len(ODD)} of {len(ODD)} images" in call(tmp_path / "photos", *options, entry=entry)
    found = {os.fsencode(path.name) for path in (tmp_path / "out").rglob("*.png") if "_prob" not in path.name}
    assert found == {name + b".png" for name in names}
    assert f"0 of {len(ODD)} images" in call(tmp_path / "photos", *options, entry=entry)
    if entry == "predict":
        with (tmp_path / "out/areas.csv").open("rb") as file:
            text = file.read().decode(errors="surrogateescape")
        cells = {row[0] for row in csv.reader(text.splitlines(keepends=True))} - {"image"}
        assert len(cells) == len(ODD) and not [cell for cell in cells if cell[0] in "=+-@\t\r\n"]


def test_odd_names_of_broken_images_are_told_in_a_line_each(call: Command, tmp_path: Path) -> None:
    for name in ODD:
        path = _image(os.fsencode(tmp_path) + b"/photos/" + name + b".png")
        path.write_bytes(b"no image")
    line = call(tmp_path / "photos", fails=True)
    assert line.count("\n") == 1 + len(ODD) and "\x1b" not in line
    assert r"a\xffb.png: cannot be decoded" in line and r"two\nlines.png: cannot" in line


def test_names_of_255_bytes_that_grow(call: Command, tmp_path: Path) -> None:
    for suffix in (".png", ".jpg"):
        _image(tmp_path / f"photos/{'n' * 251}{suffix}")
    assert "2 of 2 images" in call(tmp_path / "photos")
    assert len(_pictures(tmp_path / "out")) == 2
    line = call(tmp_path / "photos", f"out={tmp_path}/labels", entry="autolabel", fails=True)
    assert "too long a name for its label" in line


def test_folders_behind_links_are_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _image(tmp_path / "photos/deep/a.png")
    _image(tmp_path / "elsewhere/b.png")
    (tmp_path / "photos/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/twice").symlink_to(tmp_path / "photos/deep")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/self.png").symlink_to("self.png")
    (tmp_path / "photos/self").symlink_to("self")
    names = [path.relative_to(tmp_path / "photos").as_posix() for path in find_images(str(tmp_path / "photos"))[1]]
    assert names == ["deep/a.png", "linked/b.png", "self.png"]
    said = capsys.readouterr().out
    assert said.count("is the same folder as") == 2 and "photos/loop" in said and "photos/twice" in said


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _image(tmp_path / "photos/a.png")
    _image(tmp_path / "photos/deep/b.png")
    scandir = os.scandir

    def refused(path: object) -> object:  # root may read all, so that permissions alone do not show it
        if Path(os.fsdecode(path)).name == "deep":
            raise PermissionError(13, "Permission denied", os.fsdecode(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    for source in ("photos", "photos/**/*.png"):
        with pytest.raises(UserError, match=r"photos/deep: cannot be listed \(Permission denied\)"):
            find_images(f"{tmp_path}/{source}")


def test_output_files_are_of_their_kind_and_no_inputs(tmp_path: Path) -> None:
    ckpt = tmp_path / "best.ckpt"
    ckpt.write_bytes(b"weights")
    (tmp_path / "hard.onnx").hardlink_to(ckpt)
    (tmp_path / "soft.onnx").symlink_to(ckpt)
    (tmp_path / "dir.onnx").mkdir()
    for name, words in (
        ("best.ckpt", r"must end in \.onnx"),
        ("net", r"must end in \.onnx"),
        ("hard.onnx", "is an input"),
        ("soft.onnx", "is an input"),
        ("dir.onnx", "is a folder"),
    ):
        with pytest.raises(UserError, match=words):
            check_output_file(tmp_path / name, suffix=".onnx", inputs=[ckpt])
    check_output_file(tmp_path / "new.onnx", suffix=".onnx", inputs=[ckpt])


def test_printable_text_is_one_line() -> None:
    assert printable("plain Ü text") == "plain Ü text"
    assert printable("a\nb\x1b\udcff\u2028\ud800") == r"a\nb\x1b\xff\u2028\ud800"


def test_names_that_are_no_text_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    conftest.call("dashboard", "run=x", task=lambda _: print("a\udcffb"))
    assert capsys.readouterr().out == "a\\udcffb\n"

    def fail(_: object) -> None:
        raise UserError("a\x1b[31m\udcff: is broken:\n  b")

    with pytest.raises(SystemExit):
        conftest.call("dashboard", "run=x", task=fail)
    assert capsys.readouterr().err == "error: a\\x1b[31m\\xff: is broken:\n  b\n"


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_large_image_is_whole_or_not_there(call: Command, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    _image(tmp_path / "map.png", size=(300, 400))
    options = ["save=[overlay]", "huge.pixels=1000", "huge.block=256", "huge.margin=32"]
    with files_of_at_most(150_000):
        line = call(tmp_path / "map.png", *options, fails=True)
    assert "map." in line and "cannot be written" in line
    assert not (tmp_path / "out/overlay").exists() or not list((tmp_path / "out/overlay").iterdir())
    planted = tmp_path / "out/unfinished/map.blocks"
    (tmp_path / "mine").write_text("precious")
    planted.unlink(missing_ok=True)
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(tmp_path / "mine")
    assert "1 of 1" in call(tmp_path / "map.png", *options)
    assert "0 of 1" in call(tmp_path / "map.png", *options)
    assert (tmp_path / "mine").read_text() == "precious"
