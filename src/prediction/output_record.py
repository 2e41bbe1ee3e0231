"""Settings and sources of the files in an output folder, so that a command resumes there and never mixes two kinds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files.atomic import whole_file, write_bytes
from ..runtime.environment import environment

__all__ = ["SOURCES", "OutputRecord", "settings_of", "writing"]

SOURCES = "sources.jsonl"


class Stamp(NamedTuple):
    """A source file as it was when an output was made from it."""

    name: str
    bytes: int
    mtime_ns: int


class OutputRecord:
    """The settings in one JSON file, and in ``sources.jsonl`` a line ``[output, source, bytes, mtime_ns]`` per source.

    Lines are only added; of two for one output the later counts. Folders of versions that wrote no such lines are
    readable: there, an output that is newer than its source counts as made from it.

    Args:
        folder: made if it is missing; the caller holds it (``files.locked``).
        manifest: name of the JSON file, such as ``predict.json``.
        made_with: plain containers; what a later command must have in common to resume here.
        command: that writes here, such as ``src.predict``.
        foreign: files that would be taken for outputs; where there is no manifest there may be none.
        notes: more plain containers for the manifest.

    Raises:
        UserError: if the folder holds files of other settings or origin, cannot be written, or has a broken record.
    """

    def __init__(
        self,
        folder: Path,
        manifest: str,
        made_with: Mapping[str, Any],
        *,
        command: str,
        foreign: Iterable[Path],
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self._manifest = folder, folder / manifest
        self._sources: dict[str, Stamp] = {}
        self._begun: dict[str, Stamp] = {}  # as the sources were before they were read
        self._resumed = self._manifest.is_file()
        if self._resumed:
            self._check(settings_of(self._manifest), made_with)
            self._read()
            return
        if (other := next(iter(foreign), None)) is not None:
            raise UserError(
                f"out={folder}: holds files that {command} did not write, such as {other.relative_to(folder)};"
                " choose another folder, so that they are not overwritten"
            )
        content = {"made_with": made_with, **(notes or {}), "environment": environment()}
        with writing(self._manifest):
            (folder / SOURCES).unlink(missing_ok=True)
            write_bytes(self._manifest, (json.dumps(content, indent=1) + "\n").encode())

    def _check(self, before: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
        changed = [key for key in made_with if before.get(key) != made_with[key]]
        if changed:
            raise UserError(
                f"out={self.folder}: its files were made with another {changed[0]} ({self._manifest.name} there), and"
                " two kinds must not mix; choose another folder, or remove this one"
            )

    def _read(self) -> None:
        path, number, cut = self.folder / SOURCES, 0, False
        if not path.is_file():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):  # cut off when a process was killed
                    cut = True
                    break
                try:
                    output, *state = json.loads(line)
                    name, size, time = state
                    if not (isinstance(output, str) and isinstance(name, str) and type(size) is type(time) is int):
                        raise ValueError
                except (ValueError, TypeError, RecursionError):
                    raise UserError(
                        f"{path}: line {number} is broken; remove this file, and outputs that are newer than their"
                        " sources count as made from them"
                    ) from None
                self._sources[output] = Stamp(name, size, time)
        if cut or number > len(self._sources) or path.is_symlink():
            with writing(path), whole_file(path) as partial, partial.open("wb") as file:
                file.writelines(_line(output, stamp) for output, stamp in self._sources.items())

    def is_made_from(self, output: str, source: Path, files: Iterable[Path]) -> bool:
        """Whether an earlier command wrote all of ``files`` from ``source`` as it is now.

        Args:
            output: what the files are called together.
            source: file they were made from.
            files: each was moved into place when it was whole.
        """
        now, files = _stamp(source), list(files)
        if now is None:
            return False
        self._begun[output] = now
        if not self._resumed or not all(file.is_file() for file in files):
            return False
        if output in self._sources:
            return self._sources[output] == now
        # Earlier versions noted no sources; there, files that are newer than the source count as made from it.
        made = bool(files) and all(not file.is_symlink() and file.stat().st_mtime_ns >= now.mtime_ns for file in files)
        if made:
            self.add(output)
        return made

    def is_replaced(self, output: str, source: Path) -> bool:
        """Whether ``output`` was made from this source as it was before it changed."""
        return output in self._sources and self._sources[output] != _stamp(source)

    def other_source(self, output: str, source: Path) -> str | None:
        """The name of the source that ``output`` was made from; ``None`` if that is ``source``, or there is none."""
        found = self._sources.get(output)
        return None if found is None or found.name == source.name else found.name

    def add(self, output: str) -> None:
        """Notes that all files of ``output`` are whole, made from the source that ``is_made_from`` was asked about."""
        self._sources[output] = stamp = self._begun[output]
        with writing(self.folder / SOURCES), (self.folder / SOURCES).open("ab") as file:
            file.write(_line(output, stamp))


def settings_of(manifest: Path) -> dict[str, Any]:
    """What the files beside a manifest were made with, also of those that earlier versions wrote.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        content = json.loads(manifest.read_bytes())
        settings = content.get("made_with", content.get("teacher", content))
        if isinstance(settings, dict):
            return settings
        raise ValueError("no settings in it")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{manifest}: is broken ({error}), so nothing tells what the files beside it were made with; choose another"
            f" out=, or remove {manifest.parent}"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Explains a write that fails.

    Raises:
        UserError: for an ``OSError``, naming ``path``, the reason and what to do.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); finished files are whole and stay; correct that"
            " and give the same command again"
        ) from error


def _stamp(path: Path) -> Stamp | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return Stamp(path.name, state.st_size, state.st_mtime_ns)


def _line(output: str, stamp: Stamp) -> bytes:
    return (json.dumps([output, *stamp]) + "\n").encode()
