"""Labels in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from src.data.sets.mat_labels import png_labels, read_mat
from src.errors import UserError


def write_mat(path: Path, **variables: object) -> Path:
    savemat(path, variables, do_compression=True)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float64])
def test_copies_hold_the_values_in_the_given_order(kind: type, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 183, (2, 5, 7)).astype(kind)
    mats = [write_mat(tmp_path / f"{name}.mat", S=label) for name, label in zip("ba", labels, strict=True)]
    copies = png_labels(mats, tmp_path / "png", variable="S")
    assert [copy.name for copy in copies] == ["b.png", "a.png"]
    for copy, label in zip(copies, labels, strict=True):
        with Image.open(copy) as file:
            assert file.mode == "L"
            assert (np.asarray(file) == label).all()


def test_values_that_do_not_fit_eight_bits_are_mapped(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "a.mat", LabelMap=np.array([[1, 258, 459]], np.uint16))
    values = np.zeros(460, np.uint8)
    values[258] = 34
    (copy,) = png_labels([mat], tmp_path / "png", variable="LabelMap", values=values)
    assert np.asarray(Image.open(copy)).tolist() == [[0, 34, 0]]
    with pytest.raises(UserError, match=r"a\.mat: values 1\.\.459 of 'LabelMap' leave 0\.\.255; restore"):
        png_labels([mat], tmp_path / "other", variable="LabelMap")
    with pytest.raises(UserError, match=r"a\.mat: values 1\.\.459 of 'LabelMap' leave 0\.\.458; restore"):
        png_labels([mat], tmp_path / "other", variable="LabelMap", values=values[:-1])


def test_a_field_of_a_struct_is_reached_by_its_name(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "a.mat", GTcls={"Segmentation": np.array([[0, 20]], np.uint8), "Boundaries": np.eye(2)})
    assert read_mat(mat, "GTcls.Segmentation").tolist() == [[0, 20]]


def test_only_missing_copies_are_made(tmp_path: Path) -> None:
    mats = [write_mat(tmp_path / f"{name}.mat", S=np.full((1, 1), 3, np.uint8)) for name in "ab"]
    png_labels(mats[:1], tmp_path / "png", variable="S")
    before = (tmp_path / "png/a.png").stat().st_mtime_ns
    png_labels(mats, tmp_path / "png", variable="S")
    assert (tmp_path / "png/a.png").stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot be read as a \.mat file"),
        (b"\x89PNG" + bytes(200), r"cannot be read as a \.mat file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), r"cannot be read as a \.mat file .*HDF"),
    ],
)
def test_a_broken_file_leaves_no_copy(content: bytes, message: str, tmp_path: Path) -> None:
    mat = tmp_path / "a.mat"
    mat.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.mat: {message}"):
        png_labels([mat], tmp_path / "png", variable="S")
    assert not list(tmp_path.glob("png/*"))


@pytest.mark.parametrize(
    "variables", [{"T": np.eye(2)}, {"S": np.full((2, 2), 0.5)}, {"S": "text"}, {"S": np.ones((2, 2, 3))}]
)
def test_what_is_no_label_matrix_is_refused(variables: dict, tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "a.mat", **variables)
    with pytest.raises(UserError, match=r"a\.mat: holds no matrix 'S' of whole numbers"):
        read_mat(mat, "S")
    with pytest.raises(UserError, match=r"a\.mat: "):
        read_mat(mat, "GTcls.Segmentation")


def test_a_folder_that_cannot_be_written_names_the_remedy(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "a.mat", S=np.eye(2, dtype=np.uint8))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"a\.png: cannot be written .*make data\.root writable"):
        png_labels([mat], tmp_path / "file" / "png", variable="S")
