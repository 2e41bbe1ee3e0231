"""Class lists of a user's own folder: where they come from and what they make of the masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data.folder.source import folder
from src.data.label_space import distinct_colors
from src.data.source import FileSource
from src.errors import UserError


def write(root: Path, mask: Image.Image) -> Path:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", mask.size).save(root / "images" / "1.png")
    mask.save(root / "masks" / "1.png")
    return root


def grey(*values: int) -> Image.Image:
    return Image.fromarray(np.array([values], np.uint8))


def colored(*colors: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.array([colors], np.uint8))


def read(root: Path, **options: Any) -> FileSource:
    return folder(root=root, split="train", fractions={"train": 1}, **options)


@pytest.mark.parametrize(
    ("name", "text", "colors"),
    [
        ("classes.txt", "# mine\nroad\n\ntraffic light\n", None),
        ("classes.txt", "road 128 64 128\ntraffic light 250 170 30\n", [(128, 64, 128), (250, 170, 30)]),
        ("classes.txt", "road:128,64,128::\ntraffic light:250,170,30::\n", [(128, 64, 128), (250, 170, 30)]),
        ("classes.json", '["road", "traffic light"]', None),
        ("classes.json", '{"road": [1, 2, 3], "traffic light": [4, 5, 6]}', [(1, 2, 3), (4, 5, 6)]),
        (
            "classes.json",
            '[{"name": "road", "color": [1, 2, 3]}, {"name": "traffic light", "color": [4, 5, 6]}]',
            [(1, 2, 3), (4, 5, 6)],
        ),
    ],
)
def test_class_files(tmp_path: Path, name: str, text: str, colors: list | None) -> None:
    write(tmp_path, grey(0, 1))
    (tmp_path / name).write_text(text)
    space = read(tmp_path).label_space
    assert space.names == ("road", "traffic light")
    assert list(space.colors) == (colors or distinct_colors(2))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "road 1 2 3\ncar\n", r"classes\.txt: 'car' has no colour .*write 'name R G B' on every line"),
        ("classes.txt", "road 1 2 300\n", r"classes\.txt: road: .*300.* is not a colour; write three numbers 0\.\.255"),
        ("classes.txt", "a 1 2 3\na 4 5 6\n", r"classes\.txt: class 'a' occurs twice; give every class its own name"),
        ("classes.json", "[road", r"classes\.json: not readable as a class list .*write \[\"name\", \.\.\.\]"),
        ("classes.json", '[{"label": "a"}]', r"classes\.json: not readable as a class list"),
        ("classes.json", "3", r"classes\.json: holds neither"),
    ],
)
def test_bad_class_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    write(tmp_path, grey(0, 1))
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.txt", "road\nGehweg f\xfcr alle\n".encode("latin-1"), r"byte 0xfc in line 2 is not UTF-8 .*save"),
        ("classes.txt", "road\ncar\n".encode("utf-16"), r"byte 0xff in line 1 is not UTF-8 .*save the file as UTF-8"),
        ("classes.json", '["road", "M\xfcll"]'.encode("latin-1"), r"byte 0xfc in line 1 is not UTF-8"),
    ],
)
def test_class_files_of_other_encodings_are_refused_by_the_byte(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    write(tmp_path, grey(0, 1))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: {message}"):
        read(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("classes.txt", "Straße\n车\n"), ("classes.json", '["Straße", "车"]')])
def test_class_files_may_begin_with_a_byte_order_mark(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, grey(0, 1))
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read(tmp_path).label_space.names == ("Straße", "车")


def test_classes_must_be_a_list(tmp_path: Path) -> None:
    write(tmp_path, grey(0, 1))
    with pytest.raises(UserError, match=r"data\.classes=5 must be a list of texts or a mapping"):
        read(tmp_path, classes=5)


def test_roots_must_agree(tmp_path: Path) -> None:
    roots = [write(tmp_path / name, grey(0, 1)) for name in ("x", "y")]
    for root, text in zip(roots, ("a\nb\n", "b\na\n"), strict=True):
        (root / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=r"x/classes\.txt and .*y/classes\.txt differ; .*data\.classes"):
        read(roots)
    assert read(roots, classes=["a", "b"]).label_space.num_classes == 2


def test_no_class_list_shows_the_values_found(tmp_path: Path) -> None:
    write(tmp_path, grey(0, 2, 255))
    with pytest.raises(
        UserError, match=r"no class list; .*values 0, 2, 255; set 'data\.classes=\[name0,name1\]' .*classes\.txt$"
    ):
        read(tmp_path)
    write(tmp_path, grey(0, 255))
    with pytest.raises(UserError, match=r"values 0, 255; .* add 'data\.file_values=\{0:0,255:1\}'"):
        read(tmp_path)
    write(tmp_path, colored((9, 0, 1), (0, 0, 0)))
    lines = r"colours \[0,0,0\], \[9,0,1\]; set 'data\.classes=\{name0:\[0,0,0\],name1:\[9,0,1\]\}'"
    with pytest.raises(UserError, match=lines):
        read(tmp_path, encoding="color")
    with pytest.raises(UserError, match=r"1\.png: label has 3 channels .*data\.encoding=color"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"data\.classes=road must be a list of texts"):
        read(tmp_path, classes="road")


def test_file_values_with_keys_as_text(tmp_path: Path) -> None:
    write(tmp_path, grey(0, 255, 7))
    source = read(tmp_path, classes=["a", "b"], file_values={"0": 0, 255: 1, 7: 255})
    assert source.read(0)[1].tolist() == [[0, 1, 255]]


def test_palette_indices_are_classes_and_its_colours_are_shown(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1, 1, 255]], np.uint8))
    mask.putpalette([10, 20, 30, 200, 100, 50, *[0] * 762])
    source = read(write(tmp_path, mask), classes=["a", "b"])
    assert source.read(0)[1].tolist() == [[0, 1, 1, 255]]
    assert source.label_space.colors == ((10, 20, 30), (200, 100, 50))
    swapped = read(tmp_path, classes=["a", "b"], file_values={0: 1, 1: 0, 255: 255})
    assert swapped.label_space.colors == ((200, 100, 50), (10, 20, 30))


def test_a_palette_that_shows_nothing_is_not_used(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1]], np.uint8))
    mask.putpalette([v for i in range(256) for v in (i, i, i)])
    assert list(read(write(tmp_path, mask), classes=["a", "b"]).label_space.colors) == distinct_colors(2)


def test_colour_masks(tmp_path: Path) -> None:
    write(tmp_path, colored((128, 64, 128), (0, 0, 142), (0, 0, 70), (1, 1, 1), (0, 0, 0)))
    source = read(
        tmp_path,
        encoding="color",
        classes={"road": [128, 64, 128], "car": [0, 0, 142]},
        file_colors={"car": [[0, 0, 70]], "ignore": [1, 1, 1]},
    )
    assert source.read(0)[1].tolist() == [[0, 1, 1, 255, 255]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classes": ["a", "b"]},
            r"data\.encoding=color needs the colour of every class.*'data\.classes=\{a:\[R,G,B\]",
        ),
        ({"classes": {"a": [1, 2, 3], "b": [1, 2, 3]}}, r"colour \[1, 2, 3\] stands for both 'a' and 'b'; give each"),
        ({"classes": {"a": [1, 2]}}, r"data\.classes\.a: '\[1, 2\]' is not a colour; write three numbers"),
        ({"classes": {"cat": [1, 2, 3]}, "file_colors": {"cta": [4, 4, 4]}}, r"names 'cta', .*Did you mean 'cat'\?"),
    ],
)
def test_colour_mistakes(tmp_path: Path, options: dict, message: str) -> None:
    write(tmp_path, colored((1, 2, 3)))
    with pytest.raises(UserError, match=message):
        read(tmp_path, encoding="color", **options)
