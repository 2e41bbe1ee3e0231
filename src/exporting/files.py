"""Graphs as files, and files as functions of arrays."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch._export.serde.serialize import SerializeError

from src.errors import UserError

__all__ = ["FORMATS", "providers", "require", "runner", "write"]

_OPSET = 18  # the least that torch writes without conversion; TensorRT 10 and 11 read it
FORMATS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}  # and the packages that each needs


def require(file_format: str) -> None:
    """Refuses a format for which packages are missing.

    Raises:
        UserError: naming them.
    """
    missing = []
    for package in FORMATS[file_format]:
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise UserError(
            f"format={file_format} needs {', '.join(missing)}; pip install {' '.join(missing)} (versions in"
            " requirements.txt), or use format=pt2"
        )


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
    """
    if file_format == "pt2":
        try:
            torch.export.save(program, path, extra_files=dict(metadata))
        except SerializeError as error:  # torch cannot write all that it can trace, such as sides that are rounded up
            raise UserError(
                "format=pt2: the graph of this net for all sizes cannot be written; give one, such as 'size=[512,1024]'"
            ) from error
        return
    try:
        with _quiet():
            model = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=_OPSET,
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
    """The file as a function: uint8 images -> its outputs, as without this project; pt2 on the CPU."""
    if file_format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        providers = ["CUDAExecutionProvider"] * (device == "cuda") + ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        return lambda images: session.run(None, {session.get_inputs()[0].name: images})
    net = torch.export.load(path).module()

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = net(torch.from_numpy(images))
        return [each.numpy() for each in (found if isinstance(found, tuple | list) else [found])]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of every step, on the console and as warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
