"""Reads checkpoints with weights only; a file that is or holds anything else is refused in one sentence."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError, printable
from .bundle import is_bundle, read_bundle

__all__ = ["METADATA_KEY", "check_finite", "load_checkpoint", "tensors_of", "weights_of_run"]

METADATA_KEY = "semseg"  # entry of a checkpoint with its config and label space, plain containers only

_STATE_KEYS = ("state_dict", "model_state", "model")  # where the projects' files hold their tensors
_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")  # what a folder of a model hub holds
_NUMPY_SCALARS = [  # a score that a project has saved beside the weights is no more than a number
    (multiarray.scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 names it
    multiarray.scalar,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")),
]
_OTHERS = {  # how files begin that are no checkpoints
    b"<": "is a web page: the download wanted a login or a confirmation; open its address in a browser and save"
    " what it offers",
    b"version https://git-lfs": "is a pointer of Git LFS; fetch the file itself with git lfs pull",
    b"{": "is JSON text; choose the file with the weights",
}


def load_checkpoint(path: str | Path, *, weights_only: bool = True, mmap: bool = False) -> dict[str, Any]:
    """A checkpoint's content on the CPU.

    Args:
        path: file to read; PyTorch's of any age, safetensors, a bundle, or a folder as a model hub keeps them.
        weights_only: refuse anything but tensors, numbers and plain containers.
        mmap: read tensors only when they are used, where the format allows it.

    Raises:
        UserError: if the file is missing, cannot be read, or holds more than weights and plain containers.
    """
    path = Path(path)
    if is_bundle(path):
        weights, metadata = read_bundle(path)
        return {"state_dict": weights, METADATA_KEY: metadata}
    if path.is_dir():
        path = next((path / name for name in _HUB_NAMES if (path / name).is_file()), path)
    if not path.is_file():
        raise UserError(
            f"{path}: checkpoint not found; give the path of a .ckpt file, for example"
            " runs/train/<run>/checkpoints/best.ckpt"
        )
    if path.suffix == ".safetensors":
        return _safetensors(path)
    _check_kind(path)
    _check_archive(path, whole=not mmap)
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle's version
            content = torch.load(
                path, map_location="cpu", weights_only=weights_only, mmap=mmap and _can_be_mapped(path)
            )
    except ImportError as error:
        raise UserError(
            f"{path}: holds objects of a package that is not installed ({error}); install it to read this file"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(_why_not(path, error)) from error
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path}: holds a {type(content).__name__}, not a checkpoint; save its state_dict(), or choose another file"
        )
    return dict(content)


def tensors_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights in a file's content, wherever a project keeps them, without the prefix of parallel training.

    Raises:
        UserError: if there are none.
    """
    state = next((content[key] for key in _STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no weights, but {', '.join(map(str, list(state)[:4]))}; choose another file")
    parallel = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module.") if parallel else name: tensor for name, tensor in tensors.items()}


def weights_of_run(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The ``state_dict`` of a checkpoint of this project: finite tensors by name.

    Raises:
        UserError: if it holds anything else.
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: its state_dict does not hold tensors by name; the file is damaged")
    check_finite(state, path)
    return {str(name): tensor for name, tensor in state.items()}


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise a ``UserError`` if a tensor holds nan or an infinity: a net with such weights says class 0 everywhere."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype.itemsize < 2:  # of which PyTorch cannot say it either
            raise UserError(
                f"{path}: its weights are of {tensor.dtype} ({name}), which no net takes; choose another file"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"{path}: its weights are not finite ({name}); the training that wrote it diverged, or the file is"
                " damaged: use an earlier checkpoint"
            )


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = printable(" ".join(str(error).split()))[:90]
        raise UserError(f"{path}: cannot be read as safetensors ({reason}); copy or download it again") from error


def _check_kind(path: Path) -> None:
    if path.suffix in (".onnx", ".pt2"):
        raise UserError(
            f"{path}: is an exported net, which its own runtime runs (docs/export.md); give the checkpoint or run"
            " folder that it was made from"
        )
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    for beginning, what in _OTHERS.items():
        if start.startswith(beginning):
            raise UserError(f"{path}: {what}")
    if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(path)):
        size = path.stat().st_size
        raise UserError(f"{path}: ends too early, after {size} bytes; copy or download it again, completely")


def _check_archive(path: Path, *, whole: bool) -> None:
    """Compare the checksums in an archive with its content, which PyTorch does not: one bit turns -0.001 into -4e35.

    Args:
        path: file; of PyTorch's older formats, which have no checksums, nothing is asked.
        whole: check tensors, too, not only the pickle that names them.

    Raises:
        UserError: where they differ, or an entry is compressed, which PyTorch never writes: it might be of any size.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UserError(f"{path}: is a compressed archive, not a checkpoint; unpack it, or choose another file")
            for entry in entries:
                if whole or entry.filename.endswith("data.pkl"):
                    with archive.open(entry) as file:
                        while file.read(1 << 20):
                            pass
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: is damaged ({error}): its content is not what was written; copy or download it again, or use an"
            " earlier checkpoint"
        ) from error


def _can_be_mapped(path: Path) -> bool:
    """Whether PyTorch can: it takes archives only, and hands the path on as UTF-8."""
    try:
        return bool(str(path).encode()) and zipfile.is_zipfile(path)
    except UnicodeEncodeError:
        return False


def _why_not(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    foreign = re.search(r"GLOBAL (\S+)|[Cc]lass (\S+) was not|type (\S+) was not", text)
    if isinstance(error, pickle.UnpicklingError) and foreign:
        name = next(filter(None, foreign.groups()))
        return (
            f"{path}: not loaded, because it holds Python objects beside weights ({name}), and reading these may run"
            " any code; if you trust where it comes from, src.convert ..."
            " unsafe_pickle=true reads it"
        )
    reason = text if not isinstance(error, pickle.UnpicklingError) else text.split("WeightsUnpickler error: ")[-1]
    return (
        f"{path}: cannot be read as a checkpoint ({reason[:90].strip() or 'it ends too early'}); it is damaged, cut"
        " short or of another format, so copy or download it again"
    )
