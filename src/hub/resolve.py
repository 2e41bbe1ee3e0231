"""Whatever names weights, as a path on this computer; and the other way, where a path's file came from."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError
from . import repository, web
from .address import HubAddress, is_address, parse
from .network import MIRROR

__all__ = ["local_path", "origin", "size_of", "whereabouts"]


def local_path(text: str | Path) -> Path:
    """The path that ``text`` is; of an address, that of its file or bundle, which is downloaded where it is missing.

    A folder that ``SEMSEG_MIRROR`` names is looked into before the hub: ``user/name`` in it, or ``user/name@revision``
    for an address with a revision.

    Raises:
        UserError: if the file of an address cannot be had.
    """
    if not is_address(text):
        return Path(text)
    address = parse(str(text))
    if isinstance(address, HubAddress):
        return _in_mirror(address) or repository.fetch(address)
    return web.fetch(address)


def origin(path: Path) -> str | None:
    """The address that a local file came from, pinned to its commit or digest; ``None`` if it came from none."""
    hub = repository.pinned(path)
    return web.pinned(path) if hub is None else str(hub)


def whereabouts(text: str) -> str:
    """Where the file of an address is now, in words; nothing is asked of the network."""
    address = parse(text)
    try:
        if isinstance(address, HubAddress):
            found = _in_mirror(address)
            kept = found or repository.cached(address)
            place = "mirror" if found else "cache"
        else:
            kept, place = web.cached(address), "cache"
    except UserError as error:
        return f"cannot be used: {error}"
    if kept is None:
        return "not here yet, will be downloaded"
    return f"in the {place}, {size_of(kept) / 1e6:.1f} MB: {kept}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _in_mirror(address: HubAddress) -> Path | None:
    folder = os.environ.get(MIRROR)
    if not folder:
        return None
    mirror = Path(folder).expanduser()
    if not mirror.is_dir():
        raise UserError(f"{MIRROR}={folder}: is no folder; name one that holds user/name, or unset it")
    path = mirror / (f"{address.repo}@{address.revision}" if address.revision else address.repo) / address.path
    return path if path.exists() else None
