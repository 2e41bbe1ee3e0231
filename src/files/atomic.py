"""Files that appear whole or not at all, folders with one writer, and digests: the one place for each of these."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .portable import NOT_THROUGH_LINKS, POSIX_LOCKS, hold

__all__ = [
    "cache_dir", "fitting_name", "is_locked", "locked", "naming", "sha256", "whole_file", "whole_folder", "write_bytes",
]  # fmt: skip

_LONGEST_NAME = 255  # bytes of a file name, on all common file systems
_LOCK = ".lock"


def cache_dir() -> Path:
    """``$SEMSEG_CACHE``, else ``~/.cache/semseg``; it may not exist yet."""
    return Path(os.environ.get("SEMSEG_CACHE") or "~/.cache/semseg").expanduser()


def write_bytes(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Create or replace a file in one move; makes missing folders.

    Args:
        path: of the file.
        content: all of it.
        shared: see ``whole_file``.

    Raises:
        OSError: if that fails; what was there before is left as it was.
    """
    with whole_file(path, shared=shared) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield the path of an empty file beside ``path``, to be written there; rename it to ``path`` after the block.

    If the block raises, the file is removed and ``path`` is left as it was. The file keeps the extension of ``path``,
    since some libraries choose a format by it. It is always a new file: a link that lies in its place is removed, never
    followed.

    Args:
        path: file to create or replace; missing folders are made.
        shared: several processes may write this path at once, as in a cache, so each gets a name of its own. Otherwise
            the name is always the same, and what a killed process left behind is written over.

    Raises:
        OSError: if the file cannot be created or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f".{os.urandom(8).hex()}.partial." if shared else ".partial."
    partial = path.with_name(fitting_name(mark, path.name))
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | NOT_THROUGH_LINKS, 0o666))
        yield partial
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            _name(error, path)
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield the path of an empty folder beside ``path``, to be filled there; rename it to ``path`` after the block.

    If the block raises, the folder is removed and ``path`` is left as it was. What was there before lies beside
    while the new one takes its place, and is then removed; if a process is killed in between, the next puts it back.

    Args:
        path: folder to create or replace; missing ones above it are made.

    Raises:
        OSError: if the folder cannot be created or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, before = (path.with_name(fitting_name(mark, path.name)) for mark in (".partial.", ".partial.before."))
    if before.is_dir() and not path.exists():
        before.rename(path)
    for left_behind in (partial, before):
        _remove_folder(left_behind)
    try:
        partial.mkdir()
        yield partial
        try:
            if path.is_dir():
                path.rename(before)
            partial.rename(path)
        except BaseException:
            if before.is_dir() and not path.exists():
                before.rename(path)
            raise
        _remove_folder(before)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _remove_folder(partial)
        if isinstance(error, OSError):
            _name(error, path)
        raise


def _remove_folder(path: Path) -> None:
    """What lies at ``path``; a link is removed, never followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an ``OSError`` in the block the name of the file that was written, which the system leaves out."""
    try:
        yield
    except OSError as error:
        _name(error, path)
        raise


def _name(error: OSError, path: Path) -> None:
    if error.errno is None:  # a sentence, no error of the system
        return
    if error.filename is None or ".partial." in Path(os.fsdecode(error.filename)).name:
        error.filename = str(path)


def fitting_name(start: str, name: str) -> str:
    """``start + name`` as a file name of at most 255 bytes; too long a ``name`` loses its beginning for a digest.

    Two names that are shortened stay different, and the extension stays.
    """
    given = os.fsencode(start + name)
    if len(given) <= _LONGEST_NAME:
        return start + name
    mark = hashlib.sha256(os.fsencode(name)).hexdigest()[:12] + "_"
    room = _LONGEST_NAME - len(os.fsencode(start + mark))
    end = os.fsencode(name)[-room:].decode(errors="ignore")  # a character that is cut is left out
    return f"{start}{mark}{end}"


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold ``folder`` for this process until the block, or the process, ends; makes the folder.

    Processes forked meanwhile do not hold it.

    Args:
        folder: to be held; a file ``.lock`` lies there meanwhile.
        what: the folder is used for, in words that follow "another process is", such as "writing to it".

    Raises:
        UserError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    with contextlib.ExitStack() as opened:
        while True:
            file = opened.enter_context(open(path, "a+", encoding="utf-8", opener=_not_through_links))
            try:
                hold(file.fileno())
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise UserError(
                    f"{folder}: another process is {what} ({holder}); wait for it, stop it, or choose another folder"
                ) from None
            except OSError as error:  # some network disks have no locks
                print(f"note: {folder} cannot be locked ({error.strerror}); use it in one process only", flush=True)
            if _is_open_at(path, file.fileno()):
                break
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        _held.add(file.fileno())
        try:
            yield
        finally:
            _held.discard(file.fileno())
            if not POSIX_LOCKS:  # Windows removes no open file, and so not one that another process holds by now
                file.close()
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)


def _is_open_at(path: Path, descriptor: int) -> bool:
    """False for a lock that its holder has removed since it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


_held: set[int] = set()  # descriptors of locks


def _release_copies() -> None:
    for descriptor in _held:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, descriptor)
        os.close(nothing)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_copies)  # or a lock would last as long as a process that loads data


def _not_through_links(path: str, flags: int) -> int:
    at_once = getattr(os, "O_NONBLOCK", 0)  # never waits for the end of a pipe
    return os.open(path, flags | NOT_THROUGH_LINKS | at_once, 0o666)


def is_locked(folder: Path) -> bool:
    """Whether a process holds ``folder``."""
    try:
        with open(folder / _LOCK, "rb", opener=_not_through_links) as file:
            hold(file.fileno(), shared=True)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
