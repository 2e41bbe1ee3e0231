"""The folder of a prediction: what is finished there, and whether it may be continued."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.environment import environment
from src.errors import UserError
from src.files import write_bytes

__all__ = ["OutputFolder", "writing"]

MANIFEST = "predict.json"


class OutputFolder:
    """Pictures as ``<kind>/<name>``, and ``predict.json``, which says what they depend on besides the image.

    Args:
        folder: made if it is missing.
        made_with: plain containers; what a later run must have in common to go on here.

    Raises:
        UserError: if the folder holds predictions that were made otherwise, or cannot be written.
    """

    def __init__(self, folder: Path, made_with: Mapping[str, Any]) -> None:
        self.folder = folder
        manifest = folder / MANIFEST
        self._goes_on = manifest.is_file()
        if self._goes_on:
            before = json.loads(manifest.read_text())["made_with"]
            changed = [key for key in made_with if before.get(key) != made_with[key]]
            if changed:
                raise UserError(
                    f"out={folder}: its predictions were made with another {changed[0]} ({MANIFEST} there), and two"
                    " kinds must not mix; choose another folder, or remove this one"
                )
        else:
            content = {"made_with": made_with, "environment": environment()}
            with writing(manifest):
                write_bytes(manifest, (json.dumps(content, indent=1) + "\n").encode())

    def files(self, name: Path, kinds: Sequence[str]) -> dict[str, Path]:
        """Kind of picture -> its file."""
        return {kind: self.folder / kind / name for kind in kinds if kind != "area"}

    def finished(self, name: Path, kinds: Sequence[str]) -> bool:
        """Whether an earlier run wrote every picture; each was moved into place when it was whole."""
        return self._goes_on and all(file.is_file() for file in self.files(name, kinds).values())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Explains a write that fails."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); what is there is whole and stays: mend that and"
            " give the same command again with out= the same folder"
        ) from error
