"""A bundle: a trained model as a folder, or one zip, of a few plain files whose digests are checked as they are read.

``model.safetensors`` has the weights, ``config.json`` all else that is needed to build and apply them, ``README.md``
and ``picture.png`` are for people, and ``SHA256SUMS`` lists the digests of the others. A bundle has no other files.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..errors import UserError, printable
from ..files.atomic import sha256
from ..files.json_schema import SavedBundle, checked
from ..files.untrusted import MiB, parsed

__all__ = [
    "CARD", "CONFIG", "FORMAT", "PICTURE", "SUMS", "VERSION", "WEIGHTS", "ZIP_SUFFIX", "identity", "is_bundle",
    "metadata_of", "read_bundle", "read_config", "unpack",
]  # fmt: skip

WEIGHTS, CONFIG, CARD, PICTURE, SUMS = "model.safetensors", "config.json", "README.md", "picture.png", "SHA256SUMS"
FORMAT, VERSION = "semseg-bundle", 1  # which config.json names first
ZIP_SUFFIX = ".semseg.zip"

_NEEDED = (WEIGHTS, CONFIG, CARD)
_FILES = (*_NEEDED, PICTURE, SUMS)
_LIMITS = {CONFIG: 16 * MiB, SUMS: MiB // 16}  # of what is read as text
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")  # of sha256sum
_OTHERS = (
    "format",
    "version",
    "label_space",
    "normalisation",
    "scores",
    "start",
    "checkpoint",
)  # no sections of config
_AGAIN = "copy or download the bundle again"


def is_bundle(path: str | Path) -> bool:
    """Whether ``path`` is a bundle, be it a damaged one: a folder, or a zip by the name that bundles have."""
    path = Path(path)
    try:
        if path.is_dir():
            return (path / SUMS).is_file() or _is_config(path / CONFIG)
        if not path.is_file() or path.suffix.lower() != ".zip":
            return False
        return path.name.lower().endswith(ZIP_SUFFIX) or SUMS in _names(path)
    except OSError:
        return False


def _is_config(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'"{FORMAT}"'.encode() in file.read(200)


def _names(path: Path) -> list[str]:
    try:
        with _archive(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return []


def identity(path: str | Path) -> str:
    """One SHA-256 that tells a checkpoint from all others: of its file, or of a bundle's list of digests.

    A bundle has the same as a folder and as a zip.

    Raises:
        UserError: for a bundle without such a list.
    """
    if not is_bundle(path):
        return sha256(path)
    with _opened(Path(path)) as files:
        return hashlib.sha256(files.read(SUMS)).hexdigest()


def read_bundle(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A bundle's weights by name, and what ``metadata_of`` makes of its config, once all its files are verified.

    Raises:
        UserError: naming the file that is missing, damaged, changed, or none of a bundle.
    """
    with _opened(Path(path)) as files:
        digests = _digests(files)
        config = _config(files, digests)
        for name in digests.keys() - {WEIGHTS, CONFIG}:
            files.verify(name, digests[name])
        try:
            weights = load(files.verified(WEIGHTS, digests[WEIGHTS]))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            reason = printable(" ".join(str(error).split()))[:90]
            raise UserError(
                f"{files.where(WEIGHTS)}: cannot be read as safetensors ({reason}); nothing else may hold weights"
                f" there, so {_AGAIN}"
            ) from error
    return weights, metadata_of(config)


def unpack(path: str | Path, folder: Path) -> None:
    """Writes the files of a bundle, each verified, into an empty folder.

    Raises:
        UserError: as ``read_bundle``.
    """
    with _opened(Path(path)) as files:
        digests = _digests(files)
        _config(files, digests)
        for name, digest in digests.items():
            (folder / name).write_bytes(files.verified(name, digest))
        (folder / SUMS).write_bytes(files.read(SUMS))


def read_config(path: str | Path) -> dict[str, Any]:
    """What ``config.json`` of a bundle holds, verified; the weights are not read.

    Raises:
        UserError: as ``read_bundle``, but for the content of other files.
    """
    with _opened(Path(path)) as files:
        return _config(files, _digests(files))


def metadata_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle's config as checkpoints have it: ``config`` by sections, and ``label_space``."""
    sections = {name: _with_whole_keys(section) for name, section in config.items() if name not in _OTHERS}
    sections["data"] = {**sections["data"], **config["normalisation"]}
    return {"config": sections, "label_space": config["label_space"]}


def _with_whole_keys(node: Any) -> Any:
    """``node`` with whole numbers as keys where their digits are: all keys are texts in JSON, but not in YAML."""
    if isinstance(node, dict):
        return {_key(key): _with_whole_keys(value) for key, value in node.items()}
    return [_with_whole_keys(value) for value in node] if isinstance(node, list) else node


def _key(text: str) -> str | int:
    return int(text) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) else text


@dataclass(frozen=True)
class _Files:
    """The files of a bundle, by name.

    Args:
        path: of the bundle.
        sizes: bytes of each file.
        open: a file to be read.
    """

    path: Path
    sizes: Mapping[str, int]
    open: Callable[[str], IO[bytes]]

    def where(self, name: str) -> str:
        return str(self.path / name)

    def read(self, name: str) -> bytes:
        """A file's content, if it is not larger than such files are."""
        if name not in self.sizes:
            raise UserError(f"{self.where(name)}: is missing; {_AGAIN}")
        limit = _LIMITS.get(name, self.sizes[name])
        if self.sizes[name] > limit:
            raise UserError(f"{self.where(name)}: has more than {limit / MiB:g} MiB, which none needs; {_AGAIN}")
        with self.open(name) as file:
            return file.read(self.sizes[name] + 1)

    def verified(self, name: str, digest: str) -> bytes:
        """A file's content, if it has this digest."""
        content = self.read(name)
        self._compare(name, hashlib.sha256(content).hexdigest(), digest)
        return content

    def verify(self, name: str, digest: str) -> None:
        """As ``verified``, in little memory."""
        found = hashlib.sha256()
        with self.open(name) as file:
            while block := file.read(MiB):
                found.update(block)
        self._compare(name, found.hexdigest(), digest)

    def _compare(self, name: str, found: str, wanted: str) -> None:
        if found != wanted:
            raise UserError(
                f"{self.where(name)}: is not the file that {SUMS} lists: it was changed or cut short; {_AGAIN}"
            )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Files]:
    """The files of a bundle.

    Raises:
        UserError: if it holds any that bundles do not have, or cannot be read.
    """
    try:
        if path.is_dir():
            yield _of_folder(path)
        else:
            with _archive(path) as archive:
                yield _of_archive(path, archive)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or printable(" ".join(str(error).split()))[:90]
        raise UserError(f"{path}: cannot be read as a bundle ({reason}); {_AGAIN}") from error


class _Guarded(io.BufferedReader):
    """A file that gives no more than ``most`` bytes at once; an archive's directory is read at once."""

    most = 2**17  # its end and longest comment have half as much

    def read(self, size: int | None = -1, /) -> bytes:
        if (size or 0) > self.most:
            raise ValueError(f"its directory has {size} bytes, more than a bundle needs")
        return super().read(size)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, unless its directory would take the memory for a great many entries."""
    with _Guarded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        file.most = sys.maxsize
        yield archive


def _of_folder(folder: Path) -> _Files:
    """Hidden files (``.gitattributes``, ``.cache``) are no part of it: hubs and git keep some there."""
    sizes = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.name not in _FILES:
            raise UserError(f"{path}: is no file of a bundle, which holds {', '.join(_FILES)} alone; remove it")
        if path.is_symlink() and not _may_lead_to(folder, path.resolve()):
            raise UserError(f"{path}: is a link to a place outside of its folder; put the file itself there")
        if not path.is_file():
            raise UserError(f"{path}: is no regular file; {_AGAIN}")
        sizes[path.name] = path.stat().st_size
    return _Files(folder, sizes, lambda name: (folder / name).open("rb"))


def _may_lead_to(folder: Path, place: Path) -> bool:
    """A hub's cache keeps ``snapshots/<revision>/.../<name>`` as links into ``blobs`` beside ``snapshots``."""
    folder = folder.resolve()
    blobs = [each.parent / "blobs" for each in folder.parents if each.name == "snapshots"]
    return any(place.is_relative_to(root) for root in (folder, *blobs))


def _of_archive(path: Path, archive: zipfile.ZipFile) -> _Files:
    """Entries must be stored as they are, once, under the names that bundles have: so none takes more than the file."""
    entries = archive.infolist()
    for entry in entries:
        if entry.filename not in _FILES:
            raise UserError(
                f"{path}: holds '{printable(entry.filename)[:80]}', which is no file of a bundle; do not use it, or"
                " have it made again by src.export format=bundle"
            )
        odd = stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG)
        if odd or entry.flag_bits & 1 or entry.compress_type != zipfile.ZIP_STORED:
            what = "is no regular file" if odd else "is encrypted" if entry.flag_bits & 1 else "is compressed"
            raise UserError(f"{path}: its {entry.filename} {what}, which no bundle has; {_AGAIN}")
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(sizes) < len(entries):
        twice = next(name for name in sizes if archive.namelist().count(name) > 1)
        raise UserError(f"{path}: holds {twice} twice; {_AGAIN}")
    if sum(sizes.values()) > path.stat().st_size or any(e.file_size != e.compress_size for e in entries):
        raise UserError(f"{path}: its entries claim to be larger than it is; {_AGAIN}")
    return _Files(path, sizes, archive.open)


def _digests(files: _Files) -> dict[str, str]:
    """Name -> digest, of exactly the files that are there."""
    digests: dict[str, str] = {}
    text = files.read(SUMS).decode(errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        name = match[2] if match else ""
        if match is None or name not in _FILES or name in digests or name == SUMS:
            said = f"lists '{printable(name)[:80]}', which is no file of a bundle or stands there already"
            raise UserError(f"{files.where(SUMS)}: line {number} {said if match else 'is broken'}; {_AGAIN}")
        digests[name] = match[1]
    for name in (*_NEEDED, *digests):
        if name not in files.sizes:
            raise UserError(f"{files.where(name)}: is missing; {_AGAIN}")
    for name in files.sizes.keys() | set(_NEEDED):
        if name not in digests and name != SUMS:
            raise UserError(f"{files.where(name)}: is not listed in {SUMS}; {_AGAIN}")
    return digests


def _config(files: _Files, digests: Mapping[str, str]) -> dict[str, Any]:
    where = files.where(CONFIG)
    config = parsed(files.verified(CONFIG, digests[CONFIG]), dict[str, Any], where=where, remedy=_AGAIN)
    if config.get("format") != FORMAT or type(config.get("version")) is not int:
        raise UserError(f"{where}: is not of a bundle (format {FORMAT}); give a folder that src.export wrote")
    if config["version"] > VERSION:
        raise UserError(
            f"{where}: is of version {config['version']}, and this program reads up to {VERSION}; install a newer one"
        )
    return dict(checked(config, SavedBundle, where=where, remedy=_AGAIN))
