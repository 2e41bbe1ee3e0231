"""What a kind of run of a net takes: time of its phases, memory, and the least that multiplying takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.exporting import require, runner
from src.inference import Inference

__all__ = ["Kind", "once", "peak", "phases", "rate", "session"]

_SIDE = {"cpu": 1024, "cuda": 8192}  # of the matrices whose product says how fast multiplying can be


@dataclass
class Kind:
    """One kind of run: three phases, or one where they cannot be told apart, and what they took."""

    name: str
    batch_size: int
    phases: dict[str, Callable[[Any], Any]]
    image: Tensor
    floor: float | None = None  # seconds that the multiplications alone would take
    bytes: int | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)


class _Decoded:
    """A net that has already decoded."""

    def __init__(self, net: nn.Module, logits: Tensor) -> None:
        self.num_classes, self.align_corners, self.logits = net.num_classes, net.align_corners, logits

    def decode(self, _: Tensor) -> dict[str, Tensor]:
        return {"logits": self.logits}


def phases(net: nn.Module, normalize: nn.Module, mode: str, dtype: Any, layout: Any) -> dict[str, Callable[..., Any]]:
    """Copy and normalisation; the net up to its last resize; resize, arg-max and copy back."""
    device, whole, normalize.memory_format = next(net.parameters()).device, Inference(multiple=1), layout
    decode: Any = lambda x: net.decode(x)["logits"]  # noqa: E731
    decode = torch.compile(decode) if mode == "compile" else decode
    return {
        "pre": lambda image: normalize(image.to(device)).to(dtype),
        "net": lambda x: (x, decode(x)),
        "post": lambda both: whole.label(_Decoded(net, both[1]), both[0]).cpu(),
    }


def session(file: str, device: str) -> Callable[[Tensor], Any]:
    """A file of ``src.export``, from uint8 to its output."""
    require("onnx")
    try:
        run = runner(Path(file), file_format="onnx", device=device)
    except Exception as error:  # onnxruntime has many
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"onnx={file}: is no ONNX file that can be run ({reason}); src.export writes one") from error

    def call(image: Tensor) -> Any:
        try:
            return run(image.numpy())
        except Exception as error:  # onnxruntime has many
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"onnx={file}: does not take {list(image.shape)} ({reason}); change size= or batch_size="
            ) from error

    return call


def once(kind: Kind, device: str, *, keep: bool) -> None:
    """Runs the phases, each waited for."""
    value: Any = kind.image
    for name, phase in kind.phases.items():
        start = time.perf_counter()
        value = phase(value)
        if device == "cuda":
            torch.cuda.synchronize()
        if keep:
            kind.seconds.setdefault(name, []).append(time.perf_counter() - start)


def peak(kind: Kind, device: str) -> int | None:
    """Bytes that a run takes at most besides the weights; of what onnxruntime takes on a GPU, nothing is known."""
    if device == "cuda":
        if len(kind.phases) == 1:
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once(kind, device, keep=False)
        return torch.cuda.max_memory_allocated() - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        once(kind, device, keep=False)
        return max(0, _status("VmHWM") - before)
    except OSError:  # not Linux, or not allowed
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


@functools.cache
def rate(device: str, dtype: Any) -> float:
    """Multiply-adds a second of a large matrix product, the best of five."""
    side, best = _SIDE[device], float("inf")
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return side**3 / best
