"""Where commands may write: never onto an input, and never outside the folder that ``out=`` names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError

__all__ = ["check_inside", "check_no_input", "check_output_file"]


def check_output_file(out: Path, *, suffix: str, inputs: Iterable[str | Path]) -> None:
    """Refuses a file that is no place for a result, so that only files of the same kind are ever replaced.

    Args:
        out: file to write, which may exist.
        suffix: what its name must end in, such as ``.onnx``.
        inputs: files that the command reads.

    Raises:
        UserError: for another ending, a folder, or one of the inputs, also by another name (links).
    """
    if out.suffix.lower() != suffix:
        raise UserError(f"out={out}: must end in {suffix}; a file of another kind is never replaced")
    if out.is_dir():
        raise UserError(f"out={out}: is a folder; give a file in it, such as {out / f'new{suffix}'}")
    check_no_input(out, inputs)


def check_no_input(out: Path, inputs: Iterable[str | Path]) -> None:
    """Raise a ``UserError`` if ``out`` is one of the files or folders that a command reads, also by another name."""
    for path in inputs:
        if os.path.realpath(path) == os.path.realpath(out) or _is_same(out, Path(path)):
            raise UserError(
                f"out={out}: is an input of this command ({path}), which it would destroy; name another file"
            )


def _is_same(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def check_inside(out: Path, folders: Iterable[Path]) -> None:
    """Refuses places of results that links lead out of ``out``.

    Args:
        out: the folder that ``out=`` names, which may be missing.
        folders: folders below it that files are written into, which may be missing.

    Raises:
        UserError: naming the folder and where it leads.
    """
    root = os.path.realpath(out)
    for folder in folders:
        place = os.path.realpath(folder)
        if os.path.commonpath([root, place]) != root:
            raise UserError(f"{folder}: leads out of out={out}, to {place}; remove the link, or choose another out=")
