"""Checkpoint files written whole or not at all, and weights copied into a net by name."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from ..errors import UserError
from ..files.atomic import whole_file
from .load import METADATA_KEY, load_checkpoint, weights_of_run

__all__ = ["METADATA_KEY", "AtomicCheckpointIO", "LoadReport", "load_matching"]

_STATE = {"epoch": int, "global_step": int, "loops": Mapping, "callbacks": Mapping, "optimizer_states": list}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name, syncs, renames: a crash or a full disk leaves the previous file as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Saves ``checkpoint`` at ``path``.

        Raises:
            UserError: if it cannot be written, with the space that is left.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with whole_file(path) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
            cause = error if isinstance(error, OSError) else error.__context__ or error
            cause = cause.strerror if isinstance(cause, OSError) else cause
            free = shutil.disk_usage(path.parent).free / 2**20
            kept = "; the previous checkpoint there is intact" if path.is_file() else ""
            raise UserError(
                f"{path}: checkpoint cannot be written ({cause}; {free:.0f} MiB free){kept}; free some space,"
                " then resume with resume=last"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads ``path`` to the CPU, with weights only unless the caller says otherwise."""
        checkpoint = load_checkpoint(path, weights_only=weights_only is not False)
        if METADATA_KEY not in checkpoint:
            raise UserError(f"{path}: holds weights but no state of a training to resume; use init_from={path}")
        for name, kind in _STATE.items():
            if not isinstance(checkpoint.get(name), kind):
                raise UserError(f"{path}: holds no state of a training to resume ({name}); use init_from={path}")
        weights_of_run(checkpoint, path)
        return checkpoint


def _sync_folder(folder: Path) -> None:
    """Makes a rename in it outlast a loss of power; not all systems and network disks can, and the file is there."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class LoadReport:
    """Names of tensors: ``loaded``, ``missing`` in the file, ``unexpected``, ``misshaped`` (with both shapes)."""

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
    """Copies every tensor of ``state`` whose name and shape fit into ``net`` and reports the rest.

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
