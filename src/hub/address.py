"""The two kinds of addresses that stand where a checkpoint is expected, checked before anything is asked of them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from ..errors import UserError

__all__ = ["HubAddress", "WebAddress", "is_address", "parse", "plain_path"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
REPO = rf"{_PART}/{_PART}"
_HUB = re.compile(rf"hf://(?P<repo>{REPO})(@(?P<revision>refs/pr/\d+|{_PART}))?(/(?P<path>.+))?", re.ASCII)
_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")
_LOCAL = ("127.0.0.1", "::1", "localhost")
_SECRET = re.compile(r"token|sig|key|secret|credential|passw|auth", re.IGNORECASE)


class HubAddress(NamedTuple):
    """``hf://user/name[@revision][/path]``: of a bundle, or of the file or folder ``path`` in its repository."""

    repo: str
    revision: str | None
    path: str

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repo}{revision}{'/' if self.path else ''}{self.path}"


class WebAddress(NamedTuple):
    """``https://host/path[#sha256=HEX]``; ``url`` is without the fragment, ``sha256`` in small letters."""

    url: str
    sha256: str | None

    @property
    def file_name(self) -> str:
        """The last part of the path, in letters that every file system takes."""
        return re.sub(r"[^\w.-]", "_", PurePosixPath(urlsplit(self.url).path).name, flags=re.ASCII).lstrip(".")[-100:]

    def __str__(self) -> str:
        """As it is printed: signatures and keys in the query are left out, as they open what is behind them."""
        parts = urlsplit(self.url)
        query = [(name, "..." if _SECRET.search(name) else value) for name, value in parse_qsl(parts.query)]
        return parts._replace(query=urlencode(query, safe=".")).geturl()


def is_address(text: object) -> bool:
    """Whether ``text`` begins as an address does, of whatever kind; a ``Path`` is none."""
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def parse(text: str) -> HubAddress | WebAddress:
    """What an address names.

    Raises:
        UserError: for another kind of address, or one that is spelled wrongly or could lead elsewhere.
    """
    if text.startswith("hf://"):
        return _hub(text)
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise UserError(
            f"{parts.scheme}://{parts.hostname or ''}: weights are fetched from hf:// and https:// only; give such an"
            " address, or download the file and give its path"
        )
    if parts.username is not None or parts.password is not None:
        raise UserError(
            f"{parts.scheme}://...@{parts.hostname}: an address with a name or password would be written into logs;"
            " download the file and give its path"
        )
    sha256 = _SHA256.fullmatch(parts.fragment)
    address = WebAddress(parts._replace(fragment="").geturl(), sha256 and sha256[1].lower())
    if parts.fragment and sha256 is None:
        raise UserError(f"{address}#{parts.fragment}: what follows # must be sha256= and 64 hexadecimal digits")
    if not parts.hostname or not address.file_name:
        raise UserError(f"{address}: names no file; end the address with one, such as https://host/net.ckpt")
    return address


def _hub(text: str) -> HubAddress:
    found = _HUB.fullmatch(text)
    if found is None or ".." in found["repo"] or ".." in (found["revision"] or ""):
        raise UserError(
            f"{text}: is no address of a model; write hf://user/name, hf://user/name@revision or hf://user/name/file"
        )
    path = (found["path"] or "").rstrip("/")
    if path and not plain_path(path):
        raise UserError(f"{text}: a path in a repository has no '..', no \\ and no empty parts; correct it")
    return HubAddress(found["repo"], found["revision"], path)


def plain_path(path: str) -> bool:
    """Whether ``path`` is relative, in printable characters, and stays in its folder on every system."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and ":" not in path and not {"", ".", ".."} & set(parts)
