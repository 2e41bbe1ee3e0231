"""Images that a command is given: which there are, where their results go, and reading them before they are needed."""

from __future__ import annotations

import glob
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from src.errors import UserError

__all__ = ["AHEAD", "choose_device", "find_images", "output_names", "read_ahead"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}
AHEAD = 4  # images read before they are needed

Read = TypeVar("Read")


def find_images(source: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images of a file, a folder with its sub-folders, or a glob.

    Raises:
        UserError: if there is no image.
    """
    if not source:
        raise UserError(f"source={source}: names nothing; give an image, a folder, or a quoted glob")
    path = Path(source)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        base, found = path, path.rglob("*")
    else:
        wildcard = next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts) - 1)
        base = Path(*path.parts[:wildcard])
        found = base.glob(str(Path(*path.parts[wildcard:]))) if path.parts else ()
    images = sorted(item for item in found if item.suffix.lower() in SUFFIXES and item.is_file())
    if not images:
        raise UserError(
            f"source={source}: no image found; give an image, a folder, or a quoted glob with"
            f" {', '.join(sorted(SUFFIXES))}"
        )
    return base, images


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
    pool: ThreadPoolExecutor, read: Callable[[Path], Read], images: Sequence[Path]
) -> Iterator[tuple[Path, Read | UserError]]:
    """Images in order with what ``read`` gives for each, a few read before they are asked for.

    A ``UserError`` is given, not raised.
    """
    jobs: deque[tuple[Path, Future[Read]]] = deque()
    for path in images:
        jobs.append((path, pool.submit(read, path)))
        if len(jobs) > AHEAD:
            yield _result(*jobs.popleft())
    while jobs:
        yield _result(*jobs.popleft())


def _result(path: Path, job: Future[Read]) -> tuple[Path, Read | UserError]:
    try:
        return path, job.result()
    except UserError as error:
        return path, error


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
