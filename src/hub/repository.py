"""Files of a model repository, through huggingface_hub: its cache, its locks, its token, its offline mode."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ..errors import UserError, nearest
from ..files.untrusted import limited
from .address import HubAddress, plain_path
from .network import LARGEST, limited_bar, talking

__all__ = ["cached", "fetch", "pinned"]

SUMS = "SHA256SUMS"
"""In a bundle: the names of its other files, with their digests."""
_FILES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".zip")
_MOST = 64  # files of a bundle
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40,64})(?:/(.*))?$", re.ASCII)


def fetch(address: HubAddress) -> Path:
    """The file, or the folder of the bundle, in huggingface_hub's cache; what is missing there is downloaded.

    Of a bundle, only the files that its list of digests names are fetched. All files are of one commit. Of several
    processes, one downloads; another waits for it.

    Raises:
        UserError: if it cannot be had.
    """
    try:
        if is_file(address):
            return _file(address, address.path)
        sums = _file(address, _joined(address.path, SUMS))
        commit = address._replace(revision=_commit(sums))
        for name in names_in(sums, address):
            _file(commit, _joined(address.path, name))
        return sums.parent
    except _NoSuchFile as missing:
        raise UserError(f"{missing}; {_files_there(address)}") from None


def is_file(address: HubAddress) -> bool:
    """Whether an address names a file, by its extension; else it is of a bundle."""
    return address.path.endswith(_FILES)


def names_in(sums: Path, address: HubAddress) -> list[str]:
    """The names in a bundle's list of digests, each of which stays in its folder."""
    text = limited(sums, 2**16, remedy="the bundle is damaged").decode(errors="replace")
    names = [line.split(maxsplit=1)[-1].lstrip("*") for line in text.splitlines() if line.strip()]
    if len(names) > _MOST:
        raise UserError(f"{address}: lists {len(names)} files in {SUMS}, which no bundle needs; do not use it")
    if odd := next((name for name in names if not plain_path(name)), None):
        raise UserError(f"{address}: lists {odd!r} in {SUMS}, which lies outside of its folder; do not use it")
    return names


def pinned(path: Path) -> HubAddress | None:
    """The address, with its commit, of a file or folder in the cache; ``None`` for any other path."""
    found = _CACHED.search(path.absolute().as_posix())
    return found and HubAddress(f"{found[1]}/{found[2]}", found[3], (found[4] or "").rstrip("/"))


def cached(address: HubAddress) -> Path | None:
    """The file or folder of a bundle in the cache, as an unreachable hub would give it; ``None`` if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    where = address.path if is_file(address) else _joined(address.path, SUMS)
    found = try_to_load_from_cache(address.repo, where, revision=address.revision)
    if not isinstance(found, str):
        return None
    if is_file(address):
        return Path(found)
    sums = Path(found)
    return sums.parent if all((sums.parent / name).is_file() for name in names_in(sums, address)) else None


class _NoSuchFile(UserError):
    """The repository is there, but the file in it is not."""


def _file(address: HubAddress, name: str) -> Path:
    """One file in the cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    of_file = address._replace(path=name)
    with talking(address):
        try:
            found = hf_hub_download(address.repo, name, revision=address.revision, dry_run=True)
            if (found.file_size or 0) > LARGEST:
                raise UserError(f"{of_file}: has {found.file_size} bytes, more than any net here needs; choose another")
            bar = limited_bar(of_file)
            return Path(hf_hub_download(address.repo, name, revision=address.revision, tqdm_class=bar))
        except RemoteEntryNotFoundError:
            pass
    raise _NoSuchFile(
        f"{address}: {'is no bundle, as it has no' if PurePosixPath(name).name == SUMS else 'has no'} {name}"
    )


def _files_there(address: HubAddress) -> str:
    """A remedy that names the files with weights in a repository, if it tells them."""
    from huggingface_hub import HfApi

    with talking(address):
        names = HfApi().list_repo_files(address.repo, revision=address.revision)
    names = [name for name in names if name.endswith(_FILES) and plain_path(name)]
    if not names:
        return "it has no file with weights either: choose another repository"
    like = nearest(address.path, names) if address.path else ""
    return f"name one of its files: {', '.join(str(address._replace(path=name)) for name in names[:3])}{like}"


def _commit(path: Path) -> str:
    found = pinned(path)
    if found is None or found.revision is None:
        raise UserError(f"{path}: lies not in the cache as huggingface_hub lays it out; update huggingface_hub")
    return found.revision


def _joined(folder: str, name: str) -> str:
    return str(PurePosixPath(folder, name))
