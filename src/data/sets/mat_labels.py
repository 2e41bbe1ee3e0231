"""Labels of MATLAB ``.mat`` files, parsed once and kept as PNG, so that everything else reads image files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...errors import UserError
from ...files.atomic import write_bytes
from ...runtime.bars import tqdm
from ..source import Pair

__all__ = ["png_labels", "read_mat", "with_png_labels"]

_THREADS = 8  # more would only wait for each other: much of the parser is Python


def with_png_labels(
    pairs: Sequence[Pair], folder: Path, *, variable: str, values: np.ndarray | None = None
) -> list[Pair]:
    """The pairs with PNG copies for their ``.mat`` labels; arguments as for ``png_labels``."""
    copies = png_labels([pair.label for pair in pairs if pair.label], folder, variable=variable, values=values)
    return [pair._replace(label=copy) for pair, copy in zip(pairs, copies, strict=True)]


def png_labels(mats: Sequence[Path], folder: Path, *, variable: str, values: np.ndarray | None = None) -> list[Path]:
    """Copies ``folder/<stem>.png`` of label matrices; those that are there already are taken as they are.

    Args:
        mats: files to copy; each must exist.
        folder: where copies go, of one ``variable`` and ``values``; removing it makes them again.
        variable: name of the matrix, see ``read_mat``.
        values: (N,) uint8, stored value -> value in the copy; ``None`` keeps values, which must then fit 8 bits.

    Returns:
        The path of each copy, (H,W) 8-bit grey.

    Raises:
        UserError: for a file that cannot be read, a value past ``values`` or 255, or a folder that cannot be written.
    """
    copies = [folder / f"{mat.stem}.png" for mat in mats]
    have = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    todo = [(mat, copy) for mat, copy in zip(mats, copies, strict=True) if copy.name not in have]
    if todo:
        write = partial(_write, variable=variable, values=values)
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in tqdm(pool.map(write, todo), total=len(todo), unit="label", desc=f"to {folder}"):
                pass
    return copies


def read_mat(path: Path, variable: str) -> np.ndarray:
    """(H,W) whole numbers of a ``.mat`` file.

    Args:
        path: file up to version 7 (no HDF5).
        variable: name of the matrix; ``struct.field`` where it is a field of a struct.

    Raises:
        UserError: if the file is missing, broken, or has no such matrix.
    """
    from scipy.io import loadmat  # takes a second, and few data sets need it

    if not path.is_file():
        raise UserError(f"{path}: file not found; restore it")
    name, *fields = variable.split(".")
    try:
        found: Any = loadmat(path, variable_names=[name]).get(name)
        for field in fields:
            found = found[field][0, 0]
    except Exception as error:  # whatever broken bytes lead the parser to
        raise UserError(f"{path}: cannot be read as a .mat file ({error}); restore it") from error
    if found is None or found.ndim != 2 or found.dtype.kind not in "uibf" or (found % 1).any():
        raise UserError(f"{path}: holds no matrix '{variable}' of whole numbers; restore the published file")
    return found


def _write(paths: tuple[Path, Path], *, variable: str, values: np.ndarray | None) -> None:
    mat, copy = paths
    stored = read_mat(mat, variable)
    count = 256 if values is None else len(values)
    if stored.size and (stored.min() < 0 or stored.max() >= count):
        raise UserError(
            f"{mat}: values {stored.min():g}..{stored.max():g} of '{variable}' leave 0..{count - 1}; restore the"
            " published file"
        )
    label = stored.astype(np.uint8) if values is None else values[stored.astype(np.intp)]
    try:
        write_bytes(copy, cv2.imencode(".png", label)[1].tobytes(), shared=True)
    except OSError as error:
        raise UserError(
            f"{copy}: cannot be written ({error.strerror or error}); labels in .mat files are kept as PNG there, so"
            " make data.root writable, or unpack a copy where you may write"
        ) from error
