"""One file from a web server into the cache: resumed where it broke off, checked before it gets its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from ..errors import UserError
from ..files.atomic import cache_dir, sha256, write_bytes
from ..files.untrusted import MiB, limited, parsed
from .address import WebAddress
from .network import LARGEST, limited_bar, talking

__all__ = ["cached", "fetch", "pinned"]

_FOLDER = "downloads"
_NOTE = "origin.json"  # beside a file: where it came from


class _Origin(TypedDict):
    """What is known of a file, or of the part of it that is there."""

    url: str  # as it is printed
    etag: str | None
    size: int | None
    sha256: str | None


class _Offer(NamedTuple):
    """What the server says of the file."""

    etag: str | None
    size: int | None


def fetch(address: WebAddress) -> Path:
    """The file in ``<cache>/downloads``; it is downloaded where it is not there, or the server has another by now.

    With a digest in the address, a file that has it needs no network. Of several processes, one downloads; another
    waits for it.

    Raises:
        UserError: if it cannot be had, or is not what was announced.
    """
    from huggingface_hub.utils import WeakFileLock

    path = _place(address)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path.parent / ".lock"):
            return _fetched(address, path)
    except OSError as error:
        raise UserError(
            f"{address}: cannot be kept in {path.parent} ({error.strerror or error}); free some space, or set"
            " SEMSEG_CACHE to another folder"
        ) from error


def cached(address: WebAddress) -> Path | None:
    """The whole file in the cache, if it is there."""
    path = _place(address)
    note = _note(path)
    if note is None or note["sha256"] is None or not path.is_file():
        return None
    return path if address.sha256 in (None, note["sha256"]) else None


def pinned(path: Path) -> str | None:
    """The address of a file in the cache, with its digest; ``None`` for any other path."""
    if path.absolute().parent.parent != (cache_dir() / _FOLDER).absolute():
        return None
    note = _note(path)
    return None if note is None else f"{WebAddress(note['url'], None)}#sha256={note['sha256']}"


def _place(address: WebAddress) -> Path:
    return cache_dir() / _FOLDER / hashlib.sha256(address.url.encode()).hexdigest()[:24] / address.file_name


def _note(path: Path) -> _Origin | None:
    try:
        return parsed(limited(path.with_name(_NOTE), MiB, remedy=""), _Origin, where=str(path), remedy="")
    except UserError:
        return None


def _remember(path: Path, origin: _Origin) -> None:
    write_bytes(path.with_name(_NOTE), json.dumps(origin).encode())


def _fetched(address: WebAddress, path: Path) -> Path:
    there = cached(address)
    if there is not None and address.sha256 is not None:
        return there
    try:
        offer = _offer(address)
    except UserError as error:
        if there is None or address.sha256 is not None:
            raise
        print(f"note: {error}; the copy in the cache is used", flush=True)
        return there
    note = _note(path)
    if there is not None and note is not None and offer.etag and offer == _Offer(note["etag"], note["size"]):
        return there
    return _download(address, path, offer, note)


def _offer(address: WebAddress) -> _Offer:
    """Asked with a GET whose body is not read: servers of signed addresses refuse HEAD."""
    from huggingface_hub.utils import get_session

    with (
        talking(address, web=True),
        get_session().stream("GET", address.url, headers=_headers(), timeout=30) as response,
    ):
        response.raise_for_status()
        if response.headers.get("content-type", "").startswith("text/html"):
            raise UserError(
                f"{address}: is a web page, not a file: it wants a login or a confirmation; open it in a browser, save"
                " what it offers, and give that path"
            )
        size = response.headers.get("content-length", "")
        etag = response.headers.get("etag") or response.headers.get("last-modified")
    if size.isdecimal() and int(size) > LARGEST:
        raise UserError(f"{address}: has {size} bytes, more than any net here needs; give another address")
    return _Offer(etag, int(size) if size.isdecimal() else None)


def _download(address: WebAddress, path: Path, offer: _Offer, note: _Origin | None) -> Path:
    from huggingface_hub.file_download import http_get

    partial = path.with_name(f".partial.{path.name}")
    same = offer.etag is not None and not offer.etag.startswith("W/") and note is not None
    resumable = same and note is not None and note["sha256"] is None and offer == _Offer(note["etag"], note["size"])
    path.unlink(missing_ok=True)
    if not resumable:
        partial.unlink(missing_ok=True)
    _remember(path, {"url": str(address), "etag": offer.etag, "size": offer.size, "sha256": None})
    with partial.open("ab") as file:
        done = file.tell()
        if offer.size is not None and done > offer.size:
            file.truncate(done := 0)
        print(f"{'continuing' if done else 'downloading'} {address}", flush=True)
        with talking(address, web=True):
            http_get(
                address.url,
                file,
                resume_size=done,
                headers=_headers() | ({"If-Range": offer.etag or ""} if done else {}),
                expected_size=offer.size,
                displayed_filename=path.name,
                tqdm_class=limited_bar(address),
            )
    digest = sha256(partial)
    if address.sha256 not in (None, digest):
        partial.unlink()
        raise UserError(
            f"{address}: has sha256 {digest}, not the {address.sha256} that follows #; correct it if you trust the"
            " file, or give another address"
        )
    partial.replace(path)
    _remember(path, {"url": str(address), "etag": offer.etag, "size": offer.size, "sha256": digest})
    return path


def _headers() -> dict[str, Any]:
    return {"Accept-Encoding": "identity"}  # sizes and ranges are those of the file
