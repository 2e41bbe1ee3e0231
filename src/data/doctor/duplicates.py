"""Images that are in the training split and in one that is scored: scores on them say nothing about new images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from ...runtime.bars import tqdm
from ..cache import fingerprint, load_json, store_json
from ..source import FileSource, Pair, Source

__all__ = ["Leak", "known_leak", "leak", "linked_leak"]

_KIND = "leak-1"  # raise the number when more is found
_TAIL = 4096


class Leak(NamedTuple):
    """What two splits share.

    Attributes:
        total: images of the scored split that were looked at.
        copies: those of them that are, byte by byte, a training image too.
        files: up to three examples: training image and scored image.
        namesakes: scored images that are not a copy but have the name of a training image.
        names: up to three of these names.
    """

    total: int
    copies: int
    files: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    namesakes: int
    names: list[str]


def leak(
    train: Source, scored: Source, *, limit: int | None = None, fresh: bool = False, progress: bool = False
) -> Leak | None:
    """Compare two splits by content and by name; ``None`` where one of them has no files.

    Files are distinguished by size, then by their last bytes, and read whole only if these agree.

    Args:
        train: what training reads.
        scored: what is evaluated.
        limit: look at that many images of each only, which is not kept: of the scored ones evenly spread, of the
            training ones first those of their names. ``None``: all.
        fresh: compare again, whatever is remembered of the very same files.
        progress: show a progress bar.
    """
    if not isinstance(train, FileSource) or not isinstance(scored, FileSource):
        return None
    if limit is not None:
        some = _spread(list(scored.pairs), limit)
        return _compared(_alike_first(train, {pair.name for pair in some}, limit), some, progress)
    key = _key(train, scored)
    known = None if fresh else load_json(_KIND, key, Leak)
    if known is not None:
        return known
    found = _compared(train.pairs, scored.pairs, progress)
    store_json(_KIND, key, found._asdict())
    return found


def _compared(train: Sequence[Pair], scored: Sequence[Pair], progress: bool) -> Leak:
    copies = _copies([pair.image for pair in train], [pair.image for pair in scored], progress)
    taken = {pair.name for pair in train}
    names = [pair.name for pair in scored if pair.name in taken and pair.image not in copies]
    files = [[str(first), str(second)] for second, first in copies.items()]
    return Leak(len(scored), len(copies), files[:3], len(names), names[:3])


def _spread(pairs: list[Pair], limit: int) -> list[Pair]:
    """At most ``limit`` of them, evenly spread."""
    count = min(limit, len(pairs))
    return [pairs[place * len(pairs) // count] for place in range(count)]


def _alike_first(train: FileSource, names: set[str], limit: int) -> list[Pair]:
    named = [pair for pair in train.pairs if pair.name in names][:limit]
    return named + _spread([pair for pair in train.pairs if pair.name not in names], limit - len(named))


def known_leak(train: Source, scored: Source) -> Leak | None:
    """What ``leak`` found on the very same files before; ``None`` if it was not asked."""
    both = isinstance(train, FileSource) and isinstance(scored, FileSource)
    return load_json(_KIND, _key(train, scored), Leak) if both else None


def linked_leak(train: Source, scored: Source) -> Leak | None:
    """Images of both splits that links make one, such as ``images/val`` to ``images/train``; no file is opened."""
    if not isinstance(train, FileSource) or not isinstance(scored, FileSource):
        return None
    folders = [{str(pair.image.parent) for pair in source.pairs} for source in (train, scored)]
    real = {folder: Path(folder).resolve() for folder in folders[0] | folders[1]}
    if not {real[folder] for folder in folders[0] - folders[1]} & {real[folder] for folder in folders[1] - folders[0]}:
        return None
    listed = {(real[str(pair.image.parent)], pair.image.name): pair.image for pair in train.pairs}
    twice = []
    for pair in scored.pairs:
        place = (real[str(pair.image.parent)], pair.image.name)
        if place in listed:
            twice.append([str(listed[place]), str(pair.image)])
    return Leak(len(scored), len(twice), twice[:3], 0, []) if twice else None


def _key(train: Source, scored: Source) -> str | None:
    first, second = fingerprint(train), fingerprint(scored)
    return None if first is None or second is None else f"{first}_{second}"


def _copies(train: list[Path], scored: list[Path], progress: bool) -> dict[Path, Path]:
    """Scored image -> a training image of the same content."""
    for mark in (_size, _tail):
        train, scored = _alike(train, scored, mark, progress)
    originals = {_content(path): path for path in train}
    contents = {path: _content(path) for path in scored}
    return {path: originals[content] for path, content in contents.items() if content in originals}


def _alike(
    train: list[Path], scored: list[Path], mark: Callable[[Path], Hashable], progress: bool
) -> tuple[list[Path], list[Path]]:
    """Those of both lists whose mark occurs in the other."""
    bar = tqdm(
        total=len(train) + len(scored), unit="image", desc="copies", disable=not progress or not train, leave=False
    )
    with bar:
        marks = [_marks(paths, mark, bar) for paths in (train, scored)]
    both = set(marks[0]) & set(marks[1]) - {None}
    train = [path for path, value in zip(train, marks[0], strict=True) if value in both]
    scored = [path for path, value in zip(scored, marks[1], strict=True) if value in both]
    return train, scored


def _marks(paths: Iterable[Path], mark: Callable[[Path], Hashable], bar: tqdm) -> list[Hashable]:
    marks = []
    for path in paths:
        try:
            marks.append(mark(path))
        except OSError:
            marks.append(None)  # the audit reports it
        bar.update()
    return marks


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return hashlib.blake2b(file.read(), digest_size=16).digest()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
