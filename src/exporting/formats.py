"""Graphs as files, and files as functions of arrays."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._export.serde.serialize import SerializeError

from ..errors import UserError
from ..files.project import pip_install
from ..files.untrusted import MiB, limited
from .graph import OUTPUTS

__all__ = ["FORMATS", "OPSET", "providers", "require", "runner", "write"]

OPSET = 18  # the least that torch writes without conversion; TensorRT 10 and 11 read it
_LARGEST = 2048 * MiB  # of an ONNX file: protobuf has no larger ones
_ANEW = "name a file that src.export format=onnx wrote"
FORMATS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}  # and the packages that each needs


def require(file_format: str) -> None:
    """Refuses a format for which packages are missing.

    Raises:
        UserError: naming them.
    """
    missing = []
    for package in FORMATS[file_format]:
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        how = pip_install("export", f"{' '.join(missing)} (versions in requirements.txt)")
        raise UserError(f"format={file_format} needs {', '.join(missing)}; {how}, or use format=pt2")


def write(
    program: torch.export.ExportedProgram,
    path: Path,
    *,
    file_format: str,
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """One file with everything: weights, graph and ``metadata``.

    Args:
        program: the graph.
        path: where.
        file_format: ``"onnx"`` or ``"pt2"``.
        outputs: their names.
        metadata: strings by name.

    Raises:
        UserError: if an operation of the net has no counterpart in the format.
        OSError: if the file cannot be written.
    """
    if file_format == "pt2":
        content = io.BytesIO()  # torch ends the whole process when it cannot write a file to its end
        try:
            torch.export.save(program, content, extra_files=dict(metadata))
        except SerializeError as error:  # torch cannot write all that it can trace, such as sides that are rounded up
            raise UserError(
                "format=pt2: the graph of this net for all sizes cannot be written; give one, such as 'size=[512,1024]'"
            ) from error
        path.write_bytes(content.getbuffer())
        return
    try:
        with _quiet():
            model: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(outputs),
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"format=onnx: this net has no form in ONNX ({reason}); use format=pt2") from error
    model.model.metadata_props.update(metadata)
    model.save(path, external_data=False)


def providers() -> list[str]:
    """What onnxruntime can run on here, a GPU first; it warns of a provider that is named and missing."""
    import onnxruntime

    known = onnxruntime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]


def runner(path: Path, *, file_format: str, device: str = "cpu") -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file as a function: uint8 images -> its outputs, as without this project; pt2 on the CPU.

    An ONNX file may come from anywhere. A pt2 file must be one that this process wrote: torch unpickles parts of it
    without restriction, so that it can run any code.

    Raises:
        UserError: for an ONNX file that is broken, keeps weights in other files, or has another input or other outputs
            than those of ``src.export``.
    """
    if file_format == "onnx":
        import onnxruntime

        content = _read_onnx(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        providers = ["CPUExecutionProvider"]
        if device == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
        try:
            session: Any = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # onnxruntime has many
            raise UserError(f"{path}: cannot be run ({' '.join(str(error).split())[:200]}); {_ANEW}") from error
        _check_ends(session, path)
        return lambda images: session.run(None, {session.get_inputs()[0].name: images})
    net = torch.export.load(path).module()

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = net(torch.from_numpy(images))
        return [each.numpy() for each in (found if isinstance(found, tuple | list) else [found])]

    return run


def _read_onnx(path: Path) -> bytes:
    """The content of an ONNX file that has everything in it."""
    import onnx
    from google.protobuf.message import DecodeError

    content = limited(path, _LARGEST, remedy=_ANEW)
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise UserError(f"{path}: is no ONNX file, or a truncated one; {_ANEW}") from error
    if _names_files(model):
        raise UserError(f"{path}: names other files that hold its weights, which is not followed; {_ANEW}")
    return content


def _names_files(message: Any) -> bool:
    """Whether a tensor anywhere in an ONNX message, in functions and subgraphs too, lies in another file."""
    if message.DESCRIPTOR.name == "TensorProto":
        return bool(message.external_data) or message.data_location == message.EXTERNAL
    parts = [value for field, value in message.ListFields() if field.message_type is not None]
    nested = (each for value in parts for each in ([value] if hasattr(value, "DESCRIPTOR") else value))
    return any(map(_names_files, nested))


def _check_ends(session: Any, path: Path) -> None:
    """Refuses a graph that does not take images and give what ``src.export`` does."""
    taken = [(each.name, each.type, len(each.shape)) for each in session.get_inputs()]
    given = [each.name for each in session.get_outputs()]
    if taken != [("image", "tensor(uint8)", 4)] or given not in OUTPUTS.values():
        ends = f"{', '.join(name for name, *_ in taken)} -> {', '.join(given)}"[:200]
        raise UserError(f"{path}: takes and gives {ends}, not uint8 images and labels or scores; {_ANEW}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which reports every step on the console and as warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
