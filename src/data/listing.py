"""The image files below a folder: one walk, which ends whatever its links lead to, and is made once for a whole run."""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError, printable
from ..runtime.bars import tqdm
from .workers import no_bar

__all__ = ["EXTENSIONS", "files_at", "image_files"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")

_KEPT = 16  # listings, as one string each: a few MB for 200,000 files
_SETTLED = 2 * 10**9  # nanoseconds; the coarsest clock of a common file system


class _Folder(NamedTuple):
    """A folder that was listed, and how it was just before."""

    path: str
    device: int
    inode: int
    changed: int  # mtime_ns


class _Listing(NamedTuple):
    """``names`` are paths below the base, joined by NUL bytes."""

    folders: list[_Folder]
    names: bytes


_listings: OrderedDict[str, _Listing] = OrderedDict()


def image_files(base: Path) -> list[str]:
    """Paths of images below ``base``, relative to it with ``/``; empty where there is no such folder.

    Hidden files and folders are skipped, and with them what macOS leaves ("._name.png"). Links to folders are
    followed, but to none that the link lies in, and below a link to none that was listed already, so that loops end.
    What lies in folders comes before what is reached through links.

    Every split of a data set asks for the same folders. A listing is kept in this process as long as the time of
    change of each of its folders shows that no name came or went; one of a folder that changed in the two seconds
    before, within which a further change might not show, is not kept.

    Raises:
        UserError: if a folder cannot be read.
    """
    key = str(base.absolute())
    kept = _listings.pop(key, None)
    if kept is None or any(_state(folder.path) != folder for folder in kept.folders):
        begun = time.time_ns()
        kept = _walk(key)
        if any(folder.changed > begun - _SETTLED for folder in kept.folders):
            return _split(kept.names)
    _listings[key] = kept
    while len(_listings) > _KEPT:
        _listings.popitem(last=False)
    return _split(kept.names)


def files_at(folder: Path, ending: str, *, depth: int = 0) -> list[Path]:
    """Images whose names end in ``ending``, exactly ``depth`` folders below ``folder``, by folder and name.

    Raises:
        UserError: if a folder cannot be read.
    """
    names = [name for name in image_files(folder) if name.endswith(ending) and name.count("/") == depth]
    return [folder / name for name in sorted(names, key=lambda name: name.split("/"))]


def _split(names: bytes) -> list[str]:
    return os.fsdecode(names).split("\0") if names else []


def _state(path: str) -> _Folder | None:
    """``None`` if there is none."""
    try:
        state = Path(path).stat()
    except FileNotFoundError:
        return None
    return _Folder(path, state.st_dev, state.st_ino, state.st_mtime_ns)


def _walk(base: str) -> _Listing:
    folders: list[_Folder] = []
    names: list[str] = []
    start = len(base.rstrip("/")) + 1
    listed: set[tuple[int, int]] = set()
    # Path, the folders it lies in, whether below a link, whether listed only if it was not.
    inside: deque = deque([(base, (), False, False)])
    links: deque = deque()
    # Local folders take no time worth a bar, network drives do.
    bar = tqdm(desc=f"listing {printable(base)}", unit=" images", delay=1, leave=False, disable=no_bar())
    with bar:
        while inside or links:
            path, above, below_link, once = inside.popleft() if inside else links.popleft()
            folder = _state(path)
            if folder is None and not above:
                break
            entries = _entries(path, base)
            if folder is None:  # it came to be since, or was removed since it was met
                continue
            this = (folder.device, folder.inode)
            if this in above or (once and this in listed):
                continue
            listed.add(this)
            folders.append(folder)
            before = len(names)
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if entry.is_symlink():
                        links.append((entry.path, (*above, this), True, below_link))
                    else:
                        inside.append((entry.path, (*above, this), below_link, False))
                elif entry.name.lower().endswith(EXTENSIONS):
                    names.append(entry.path[start:])
            bar.update(len(names) - before)
    return _Listing(folders, os.fsencode("\0".join(names)))


def _entries(path: str, base: str) -> list[os.DirEntry]:
    """By name."""
    try:
        with os.scandir(path) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{printable(path)}: folder cannot be listed ({error.strerror}); correct its permissions, or move it out of"
            f" {printable(base)}"
        ) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        if entry.is_dir():
            return True
        # Without a suffix it was a folder, most likely: its images must not be missed in silence.
        lost = entry.is_symlink() and "." not in entry.name and not Path(entry.path).exists()
        reason = "nothing is there"
    except OSError as error:
        lost, reason = error.errno != errno.ELOOP, error.strerror
    if lost:
        raise UserError(
            f"{printable(entry.path)}: link cannot be followed ({reason}); mount or restore what it leads to, or remove"
            " the link"
        )
    return False
