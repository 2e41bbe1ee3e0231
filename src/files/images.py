"""Images that a command is given: which there are, where their results go, and reading them before they are needed."""

from __future__ import annotations

import glob
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..errors import UserError, printable
from .atomic import fitting_name

__all__ = [
    "AHEAD",
    "SUFFIXES",
    "check_distinct",
    "find_images",
    "full_name",
    "left_out",
    "output_names",
    "read_ahead",
]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}
AHEAD = 4  # images read before they are needed

LISTS = {".txt", ".lst"}

Item = TypeVar("Item")
Read = TypeVar("Read")


def find_images(source: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images of a source.

    Args:
        source: an image, a folder with its sub-folders, a glob, or a ``.txt`` or ``.lst`` file with a path a line,
            relative to its own folder. Names that begin with a dot, as macOS leaves them (``._x.png``), are no images
            of a folder or glob. Links to folders are followed; a folder that is met again is left out, with a note.

    Raises:
        UserError: if there is no image, or a sub-folder cannot be read.
    """
    if not source:
        raise UserError(f"source={source}: names nothing; give an image, a folder, a quoted glob, or a list of paths")
    path = Path(source)
    if path.is_file():
        return _listed(path) if path.suffix.lower() in LISTS else (path.parent, [path])
    if path.is_dir():
        base, found = path, _walk(path)
    else:
        wildcard = next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts) - 1)
        base, pattern = Path(*path.parts[:wildcard]), path.parts[wildcard:]
        found = base.glob(str(Path(*pattern))) if pattern else ()
        if "**" in pattern and base.is_dir():
            deque(_walk(base, say=False), maxlen=0)  # a glob skips what it cannot read, without an error
    images = sorted(item for item in found if _is_image(item))
    if any(".." in image.parts[len(base.parts) :] for image in images):
        base, images = _resolved(images)
    if not images:
        raise UserError(
            f"source={source}: no image found; give an image, a folder, a quoted glob, or a list of paths (.txt) with"
            f" {', '.join(sorted(SUFFIXES))}"
        )
    return base, images


def _is_image(path: Path) -> bool:
    """By its name; a link that leads nowhere is one that cannot be read."""
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return named and (path.is_file() or path.is_symlink())


def _walk(base: Path, *, say: bool = True) -> Iterator[Path]:
    """Every file below ``base``."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be listed ({error.strerror}); correct its permissions, or move it out of"
            f" source={base}"
        ) from error

    seen: dict[tuple[int, int], str] = {}
    for folder, below, names in os.walk(base, onerror=refuse, followlinks=True):
        state = Path(folder).stat()
        if (first := seen.setdefault((state.st_dev, state.st_ino), folder)) != folder:
            if say:
                print(
                    f"note: {printable(folder)} is the same folder as {printable(first)}, and is left out", flush=True
                )
            below.clear()
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(folder, name) for name in names)


def _listed(path: Path) -> tuple[Path, list[Path]]:
    """The paths in a text file, each once, and the folder that holds them all."""
    content = path.read_bytes()
    if b"\0" in content:
        raise UserError(f"source={path}: is no text; a list of images has one path a line")
    lines = [line.strip() for line in content.decode("utf-8-sig", "surrogateescape").split("\n")]
    images = [path.parent / line for line in lines if line]
    if odd := next((image for image in images if image.name in ("", "..")), None):
        raise UserError(f"source={path}: lists {odd}, which is no file; write one path of an image a line")
    if not images:
        raise UserError(f"source={path}: lists no image; write one path a line, relative to the folder of the list")
    return _resolved(images)


def _resolved(images: Iterable[Path]) -> tuple[Path, list[Path]]:
    """The folder that holds all images, and each of them once, by a path without ``..``; links to files stay."""
    images = list(dict.fromkeys(Path(os.path.realpath(image.parent), image.name) for image in images))
    return Path(os.path.commonpath([image.parent for image in images])), images


def output_names(base: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> where its result goes below each output folder: its own place, with ``.png`` for its extension.

    Images that differ in the extension only keep theirs, so that none overwrites another. Names that grow beyond 255
    bytes are shortened.

    Raises:
        UserError: if two images would get one name nevertheless.
    """
    stems = Counter(path.with_suffix("") for path in images)
    names: dict[Path, Path] = {}
    for path in images:
        below = path.relative_to(base)
        names[path] = below.with_suffix(".png") if stems[path.with_suffix("")] == 1 else full_name(below)
    check_distinct(names)
    return names


def check_distinct(names: Mapping[Path, Path]) -> None:
    """Refuses two images whose results would get one name.

    Raises:
        UserError: naming both.
    """
    owners: dict[Path, Path] = {}
    for path, name in names.items():
        if (other := owners.setdefault(name, path)) is not path:
            raise UserError(
                f"{printable(other)} and {printable(path)}: their results would get one name, {printable(name)}; rename"
                " one of them"
            )


def full_name(image: Path) -> Path:
    """The name of a result that keeps the extension of its image: ``a.jpg.png``, of at most 255 bytes."""
    return image.with_name(fitting_name("", f"{image.name}.png"))


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


def left_out(broken: Sequence[str]) -> str:
    """The message about files that could not be used, a line each."""
    files = "1 file was" if len(broken) == 1 else f"{len(broken)} files were"
    return f"{files} left out:\n  " + "\n  ".join(map(printable, broken))
