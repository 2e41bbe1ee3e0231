"""What was once counted over a data set is kept until its files change: cache folder, fingerprint, whole files only."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from ..files.atomic import cache_dir, write_bytes
from ..files.project import written_name
from ..files.untrusted import MiB, limited, parsed
from .label_space import LabelSpace
from .source import FileSource, Source

__all__ = ["cache_dir", "fingerprint", "load_json", "store_json"]

_LARGEST = 256 * MiB
T = TypeVar("T")


def fingerprint(source: Source, *extra: object) -> str | None:
    """A hex digest that changes with whatever ``source.read`` depends on, at the cost of one ``stat`` per file.

    Args:
        source: of files: their paths, sizes and times, and the label space count. Of anything else: its class, its
            ``identity()`` and the file of its code. Sources in a row (``ConcatSource``): each of them.
        extra: what else the result depends on, such as its kind, version and options; spelled by ``repr``.

    Returns:
        32 hex digits, or ``None`` where the source holds objects that cannot be distinguished: then cache nothing.
    """
    digest = hashlib.sha256(repr(extra).encode())
    for part in source.parts:
        try:
            identity = _plain(part.identity())
        except TypeError:
            return None
        # Shards and caches of 0.1.0 were marked when the class of file sources lay in another module.
        module = written_name(type(part).__module__).replace("src.data.source", "src.data.dataset")
        kind = f"\n{module}.{type(part).__qualname__} {len(part)} {identity}"
        digest.update(kind.encode(errors="surrogateescape"))
        digest.update(repr(_spelled(part.label_space)).encode())
        for line in _files(part):
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def load_json(kind: str, key: str | None, content: type[T]) -> T | None:
    """What ``store_json`` kept; ``None`` if that is nothing, cannot be read, or is no ``content``."""
    if key is None:
        return None
    path = cache_dir() / kind / f"{key}.json"
    try:
        return parsed(limited(path, _LARGEST, remedy=""), content, where=str(path), remedy="")
    except UserError:  # it is made again
        return None


def store_json(kind: str, key: str | None, value: Any) -> None:
    """Keep ``value`` under ``<cache>/<kind>/<key>.json``; a cache that cannot be written only costs time."""
    if key is not None:
        with suppress(OSError):
            write_bytes(cache_dir() / kind / f"{key}.json", json.dumps(value).encode(), shared=True)


def _plain(value: Any) -> str:
    """Raises a ``TypeError`` for what may look the same and yet differ."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_plain(key)}:{_plain(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, Path):
        return f"{value.absolute()}{_state(value)}"
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    raise TypeError


def _spelled(space: LabelSpace) -> list[Any]:
    maps = [None if table is None else sorted(table.items()) for table in (space.file_values, space.file_colors)]
    return [space.names, space.colors, *maps, space.encoding, space.ignore_unknown]


def _files(source: Source) -> Iterator[str]:
    """A line with path, size and time for each file of a source; without any, for the file of its code."""
    if not isinstance(source, FileSource):
        file = getattr(sys.modules.get(type(source).__module__), "__file__", None)
        yield "\n-" if file is None else f"\n{_plain(Path(file))}"
        return
    for pair in source.pairs:
        for path in (pair.image, pair.label, pair.confidence):
            yield f"\n{_plain(path)}"
    yield from (f"\nunmatched {_plain(path)}" for path in source.unmatched)


def _state(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return " missing"
    return f" {state.st_size} {state.st_mtime_ns}"
