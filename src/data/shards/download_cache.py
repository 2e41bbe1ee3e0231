"""Shards at an address, downloaded into a local folder when they are first read."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeVar

from ...errors import UserError
from ...files.atomic import sha256, whole_file
from ...files.portable import hold
from ...files.untrusted import MiB
from ..cache import cache_dir
from .index import LARGEST_INDEX, Shard

__all__ = ["ShardCache"]

_TRIES = 3
_PAUSE = 1  # seconds after the first failure, longer after the next
_SILENCE = 60  # seconds without a byte after which a server is taken for gone
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_INSTALL = (
    "install what its kind of address needs: nothing for http(s)://, s3fs for s3://, gcsfs for gs://, adlfs for abfs://"
)

Opened = TypeVar("Opened")


class ShardCache:
    """The local copy of a remote folder of shards; shared by all processes of a computer, one of which fetches.

    Args:
        url: address of the folder, in any scheme that fsspec opens.
        folder: where copies lie; ``None``: ``<cache>/shards/<digest of the address>``.
        limit_gb: gigabytes (10^9) of shards to keep; the longest unused are removed. ``None``: all.

    Raises:
        UserError: on fetching, naming the address: where it cannot be read, or holds other shards than the index.
    """

    def __init__(self, url: str, *, folder: str | Path | None = None, limit_gb: float | None = None) -> None:
        if limit_gb is not None and limit_gb <= 0:
            raise UserError(f"data.cache_gb={limit_gb} must be more than 0, or null to keep every shard")
        self.url = url.rstrip("/")
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.folder = Path(folder).expanduser() if folder else cache_dir() / "shards" / digest
        self.limit_gb = limit_gb

    def local(self, shard: Shard) -> Path:
        """Where the copy of a shard lies; another content has another place."""
        return self.folder / f"{Path(shard.file).stem}-{shard.sha256[:12]}.tar"

    def fetch_index(self, split: str) -> Path:
        """Fetch the index of a split, again each time; returns its folder."""
        self._fetch(f"{split}.json", self.folder / f"{split}.json")
        return self.folder

    def fetch_table(self, shard: Shard) -> None:
        """Fetch the table of a shard, if there is one at the address."""
        beside = self.local(shard).with_suffix(".npz")
        if not beside.exists():
            with suppress(UserError):
                self._fetch(f"{Path(shard.file).stem}.npz", beside, shard)

    def opened(self, shard: Shard, open_file: Callable[[Path], Opened]) -> Opened:
        """``open_file`` of the copy, which is fetched first if it is not there."""
        path = self.local(shard)
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):  # or removed by another process meanwhile
                found = open_file(path)
                os.utime(path)  # used last now
                return found
            with self._alone(path):
                if not path.exists():
                    for left in self.folder.glob(f".*{path.name}*"):  # by a process that was killed
                        left.unlink(missing_ok=True)
                    self._fetch(shard.file, path, shard)
                    self._make_room(path)
        raise UserError(f"data.cache_gb={self.limit_gb} is too little for the shards that are read at a time; raise it")

    def _fetch(self, name: str, path: Path, shard: Shard | None = None) -> None:
        url = f"{self.url}/{name}"
        whole = shard is not None and name == shard.file
        limit = shard.bytes + MiB if shard else LARGEST_INDEX  # a table is smaller than its shard
        with whole_file(path, shared=True) as partial:
            _download(url, partial, size=shard.bytes if shard and whole else None, limit=limit)
            if shard and whole and sha256(partial) != shard.sha256:
                raise UserError(f"{url}: shard was changed (other sha256 than in its index); upload it again")

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """One process of a computer at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("wb") as file:
            hold(file.fileno(), wait=True)
            yield

    def _make_room(self, newest: Path) -> None:
        if self.limit_gb is None:
            return
        ages = []
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):
                state = path.stat()
                ages.append((state.st_mtime_ns, state.st_size, path))
        excess = sum(size for _, size, _ in ages) - self.limit_gb * 1e9
        for _, size, path in sorted(ages):
            if excess > 0 and path != newest:
                path.unlink(missing_ok=True)
                excess -= size


def _download(url: str, path: Path, *, size: int | None, limit: int) -> None:
    """``size`` is what must come, where that is known, and ``limit`` what may."""
    import fsspec  # here, since few data sets lie at an address

    class Counted(fsspec.Callback):
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > limit:
                raise ValueError(f"more than {limit} bytes came")

    for attempt in range(1, _TRIES + 1):
        try:
            system, place = fsspec.core.url_to_fs(url, **_patience(url))
            system.get_file(place, str(path), callback=Counted())
            came = path.stat().st_size
            if size is not None and came != size:
                raise EOFError(f"{came} of {size} bytes came")
            if url.endswith(".json") and not path.read_bytes().endswith(b"}"):
                raise EOFError("what came is not a whole index")
            return
        except Exception as error:  # each file system has its own kinds
            why = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, OSError) and error.errno in _FULL:
                raise UserError(
                    f"{path.parent}: the disk is full ({error.strerror}; {disk_usage(path.parent).free / 2**20:.0f} MiB"
                    f" free), so {url} cannot be kept there; free some space, choose another folder with"
                    " data.cache=..., or keep fewer shards with data.cache_gb=... sampler=shuffle_shards"
                ) from error
            if isinstance(error, ImportError | ValueError):
                raise UserError(f"{url}: cannot be fetched ({why}); correct data.root, or {_INSTALL}") from error
            if attempt == _TRIES or isinstance(error, FileNotFoundError):
                raise UserError(f"{url}: cannot be fetched ({why}); check data.root, server and network") from error
            time.sleep(_PAUSE * attempt)


def _patience(url: str) -> dict[str, Any]:
    """However long a shard takes over HTTP, as long as bytes come; the library's own limit is five minutes in all."""
    if not url.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)}}
