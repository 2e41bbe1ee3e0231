"""Images that a command is given: which there are, where their results go, and reading them before they are needed."""

from __future__ import annotations

import glob
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from src.errors import UserError

__all__ = ["AHEAD", "choose_device", "find_images", "left_out", "output_names", "read_ahead"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}
AHEAD = 4  # images read before they are needed

LISTS = {".txt", ".lst"}

Item, Read = TypeVar("Item"), TypeVar("Read")


def find_images(source: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images of a source.

    Args:
        source: an image, a folder with its sub-folders, a glob, or a ``.txt`` or ``.lst`` file with a path a line,
            relative to its own folder.

    Raises:
        UserError: if there is no image.
    """
    if not source:
        raise UserError(f"source={source}: names nothing; give an image, a folder, a quoted glob, or a list of paths")
    path = Path(source)
    if path.is_file():
        return _listed(path) if path.suffix.lower() in LISTS else (path.parent, [path])
    if path.is_dir():
        base, found = path, path.rglob("*")
    else:
        wildcard = next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts) - 1)
        base = Path(*path.parts[:wildcard])
        found = base.glob(str(Path(*path.parts[wildcard:]))) if path.parts else ()
    images = sorted(item for item in found if item.suffix.lower() in SUFFIXES and item.is_file())
    if not images:
        raise UserError(
            f"source={source}: no image found; give an image, a folder, a quoted glob, or a list of paths (.txt) with"
            f" {', '.join(sorted(SUFFIXES))}"
        )
    return base, images


def _listed(path: Path) -> tuple[Path, list[Path]]:
    """The paths in a text file, each once, and the folder that holds them all."""
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"source={path}: is no text; a list of images has one path a line") from error
    images = list(dict.fromkeys((path.parent / line.strip()).absolute() for line in lines if line.strip()))
    if not images:
        raise UserError(f"source={path}: lists no image; write one path a line, relative to the folder of the list")
    return Path(os.path.commonpath([image.parent for image in images])), images


def output_names(base: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> where its result goes below each output folder: its own place, with ``.png`` for its extension.

    Images that differ in the extension only keep theirs, so that none overwrites another.
    """
    stems = Counter(path.with_suffix("") for path in images)
    alone = {path: stems[path.with_suffix("")] == 1 for path in images}
    return {
        path: path.relative_to(base).with_suffix(".png" if alone[path] else f"{path.suffix}.png") for path in images
    }


def read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Item], Read], items: Iterable[Item], ahead: int = AHEAD
) -> Iterator[tuple[Item, Read | UserError]]:
    """Items in order with what ``read`` gives for each, ``ahead`` of them read before they are asked for.

    A ``UserError`` is given, not raised.
    """
    jobs: deque[tuple[Item, Future[Read]]] = deque()
    for item in items:
        jobs.append((item, pool.submit(read, item)))
        if len(jobs) > ahead:
            yield _result(*jobs.popleft())
    while jobs:
        yield _result(*jobs.popleft())


def _result(item: Item, job: Future[Read]) -> tuple[Item, Read | UserError]:
    try:
        return item, job.result()
    except UserError as error:
        return item, error


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is a GPU where there is one.

    Raises:
        UserError: for another name, or without a usable GPU.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"device={name} is unknown; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: this machine has no usable GPU; use device=cpu")
    return name


def left_out(broken: Sequence[str]) -> str:
    """The message about files that could not be used, a line each."""
    files = "1 file was" if len(broken) == 1 else f"{len(broken)} files were"
    return f"{files} left out:\n  " + "\n  ".join(broken)
