"""Checkpoint files: written whole or not at all, loaded with weights only."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from src.errors import UserError

__all__ = ["METADATA_KEY", "AtomicCheckpointIO", "LoadReport", "load_checkpoint", "load_matching"]

METADATA_KEY = "semseg"  # entry of a checkpoint with its config and label space, plain containers only


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name, syncs, renames: a crash or a full disk leaves the previous file as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Saves ``checkpoint`` at ``path``.

        Raises:
            UserError: if it cannot be written, with the space that is left.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
            temporary.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free / 2**20
            kept = "; the previous checkpoint there is intact" if path.is_file() else ""
            raise UserError(
                f"{path}: checkpoint cannot be written ({error}; {free:.0f} MiB free){kept}; free some space,"
                " then go on"
                " with resume=last"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads ``path`` to the CPU with weights only, whatever the caller did not say."""
        checkpoint = load_checkpoint(path, weights_only=weights_only is not False)
        if METADATA_KEY not in checkpoint:
            raise UserError(f"{path}: is no run to continue, but a file of weights; use init_from={path}")
        return checkpoint


def load_checkpoint(path: str | Path, *, weights_only: bool = True, mmap: bool = False) -> dict[str, Any]:
    """A checkpoint's content on the CPU.

    Args:
        path: file to read.
        weights_only: refuse anything but tensors and plain containers.
        mmap: read tensors only when they are used.

    Raises:
        UserError: if the file is missing, cannot be read, or holds more than weights and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: checkpoint not found; give the path of a .ckpt file, for example"
            " runs/train/<run>/checkpoints/best.ckpt"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not loaded, because it is broken or holds Python objects beside weights"
            f" ({str(error).splitlines()[0]}); use a checkpoint of this project"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]}); copy it again or use another"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a checkpoint; choose another file")
    return content


@dataclass(frozen=True)
class LoadReport:
    """What became of each name: ``loaded``, ``missing`` there, ``unexpected``, ``misshaped`` (both shapes)."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} of {len(self.loaded) + len(self.missing) + len(self.misshaped)} tensors"]
        for title in ("missing", "unexpected", "misshaped"):
            names = getattr(self, title)
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                lines.append(f"  {title} {len(names)}: {', '.join(names[:5])}{more}")
        return "\n".join(lines)


def load_matching(net: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Copies every tensor of ``state`` whose name and shape fit into ``net`` and says what became of the rest.

    Raises:
        UserError: if nothing fits.
    """
    own = net.state_dict()
    fitting = {
        name: tensor
        for name, tensor in state.items()
        if name in own and own[name].shape == tensor.shape and not name.endswith("_extra_state")
    }
    report = LoadReport(
        loaded=sorted(fitting),
        missing=sorted(own.keys() - state.keys()),
        unexpected=sorted(state.keys() - own.keys()),
        misshaped=[
            f"{name} {tuple(state[name].shape)} -> {tuple(own[name].shape)}"
            for name in sorted((own.keys() & state.keys()) - fitting.keys())
        ],
    )
    if not fitting:
        raise UserError(
            f"the checkpoint fits the net in no tensor: it has {', '.join(list(state)[:3])}, wanted"
            f" {', '.join(list(own)[:3])};"
            " choose the model it was trained with"
        )
    net.load_state_dict(fitting, strict=False)
    return report
