"""Calls that Windows lacks, and what takes their place there; Linux and macOS have them all."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None

__all__ = ["NOT_THROUGH_LINKS", "POSIX_LOCKS", "hold", "open_to_read", "read_at"]

POSIX_LOCKS = fcntl is not None  # under which a file that is held can be removed
NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)  # a flag of ``os.open``; Windows lets administrators alone make links
_FAR = 2**30  # the byte that is locked on Windows, where nobody can read what is locked
_TAKEN = (errno.EACCES, errno.EDEADLK)
_LOOK = 0.1  # seconds between two looks at a lock
_seeking = threading.Lock()


def hold(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed or this process ends.

    Args:
        descriptor: of the file.
        shared: with others that share it; Windows has no such lock, and holds it alone.
        wait: until it is free.

    Raises:
        BlockingIOError: if another process holds it, unless ``wait``.
        OSError: if its disk has no locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        return
    while not _held_on_windows(descriptor):
        if not wait:
            raise BlockingIOError(errno.EWOULDBLOCK, "held by another process")
        time.sleep(_LOOK)


def _held_on_windows(descriptor: int) -> bool:
    import msvcrt

    windows: Any = msvcrt  # elsewhere its stub is empty
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _FAR, os.SEEK_SET)
    try:
        windows.locking(descriptor, windows.LK_NBLCK, 1)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)
    return True


def open_to_read(path: str | os.PathLike[str]) -> int:
    """A descriptor of the bytes of a file, for ``read_at``."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read ``size`` bytes, fewer at the end of the file; threads and forked processes may share the descriptor."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _seeking:  # Windows has no fork
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)
