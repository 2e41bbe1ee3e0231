"""What a user of an exported file must know: in its metadata, and on the console."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.bundle import identity
from ..runtime.environment import environment
from .agreement import Agreement
from .formats import OPSET, providers
from .graph import Deployed, Traced

__all__ = ["metadata", "summary"]


def metadata(
    deployed: Deployed,
    traced: Traced,
    *,
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    checkpoint: Path,
    applied: Mapping[str, Any],
) -> dict[str, str]:
    """JSON by name, for the file.

    Args:
        deployed, traced: the net and its graph.
        names, colors: of the classes.
        checkpoint: file or bundle that the net is from.
        applied: plain containers, how the net was trained and is applied.
    """
    surroundings = environment()
    protocol = {
        **applied,
        "checkpoint": {"name": checkpoint.name, "sha256": identity(checkpoint)},
        "versions": {"torch": surroundings["packages"]["torch"], "commit": surroundings["commit"]},
        "date": surroundings["time"],
    }
    sizes = {"sizes": traced.sizes, "batch": traced.batch or "any"}
    values = {
        "class_names": names,
        "class_colors": colors,
        "input": {"layout": deployed.layout, "order": "rgb", "dtype": "uint8", **sizes},
        "output": deployed.output,
        "precision": deployed.precision,
        "protocol": protocol,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def summary(path: Path, deployed: Deployed, traced: Traced, found: Agreement, where: str) -> str:
    """What the file is, takes and gives, how it was checked on images from ``where``, and how to run it in Python."""
    size = "(B,3,H,W)" if deployed.layout == "nchw" else "(B,H,W,3)"
    outputs = {
        "label": "label (B,H,W) uint8",
        "scores": "scores (B,K,H,W) float32",
        "label_and_confidence": "label and confidence, (B,H,W) uint8 each",
    }
    if path.suffix.lower() == ".onnx":
        kind = f"ONNX opset {OPSET}"
        usage = [
            "import onnxruntime",
            f"net = onnxruntime.InferenceSession({str(path)!r}, providers={providers()})",
            'outputs = net.run(None, {"image": image})  # numpy, uint8',
        ]
    else:
        kind = "torch.export"
        usage = [
            "import torch",
            f"net = torch.export.load({str(path)!r}).module()",
            "outputs = net(image)  # torch, uint8",
        ]
    return "\n".join(
        [
            f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {kind}, {deployed.precision}",
            f"in:    image {size} uint8 RGB, {traced.sizes}, batch {traced.batch or 'any'}",
            f"out:   {outputs[deployed.output]}",
            f"check: same class as the net on {100 * found.share:.4f} % of {found.pixels:,} pixels ({where}); largest"
            f" difference of {found.measure} {found.difference:.2g}",
            "",
            *usage,
        ]
    )
