"""Measures kinds of runs of a net: time of the phases, memory, and the least time that multiplying takes."""

from __future__ import annotations

import copy
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..exporting import require, runner
from ..inference import Inference
from ..models.net import Net
from ..models.normalize import Normalize
from ..runtime.bars import tqdm

__all__ = ["Kind", "kinds_of_net", "kinds_of_onnx", "measure", "once", "phases"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
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

    def row(self) -> dict[str, Any]:
        """Milliseconds of the phases and of all together, images a second, memory and floor, in plain containers."""
        total = [sum(each) for each in zip(*self.seconds.values(), strict=True)]
        measured = {"all": total}
        if len(self.phases) > 1:
            measured |= self.seconds
        times = {
            name: {"median_ms": 1000 * statistics.median(values), "p95_ms": 1000 * _percentile(values)}
            for name, values in measured.items()
        }
        return {
            "kind": self.name,
            "batch_size": self.batch_size,
            "times": times,
            "images_per_second": self.batch_size / statistics.median(total),
            "peak_bytes": self.bytes,
            "floor_ms": None if self.floor is None else 1000 * self.floor,
        }


def _percentile(values: list[float]) -> float:
    """The 95th: no more than one in twenty is above."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def kinds_of_net(
    net: Net,
    normalize: Normalize,
    images: Sequence[Tensor],
    *,
    modes: Sequence[str],
    precisions: Sequence[str],
    device: str,
    multiply_adds: int,
) -> Iterator[Kind]:
    """Every combination of precision, mode and batch; weights are copied only where mode or precision differ.

    ``images`` are (B,3,H,W) uint8 each, ``modes`` of ``eager``, ``channels_last`` and ``compile`` (channels last as
    well), ``precisions`` of ``fp32``, ``bf16`` and ``fp16``; ``multiply_adds`` are those of one image.
    """
    for precision, mode in itertools.product(precisions, modes):
        dtype, layout = _DTYPES[precision], torch.contiguous_format if mode == "eager" else torch.channels_last
        own = copy.deepcopy(net).to(device=device, dtype=dtype)
        own.to(memory_format=layout)  # pyrefly: ignore[no-matching-overload]  # torch's stubs lack it
        rate = _rate(device, dtype)
        for image in images:
            steps = phases(own, copy.deepcopy(normalize).to(device), mode, dtype, layout)
            yield Kind(f"{mode}, {precision}", len(image), steps, image, multiply_adds * len(image) / rate)


def kinds_of_onnx(file: str, images: Sequence[Tensor], device: str) -> Iterator[Kind]:
    """A file of ``src.export`` with each batch, in one phase."""
    for image in images:
        yield Kind(f"onnxruntime, {Path(file).name}", len(image), {"net": _session(file, device)}, image)


def measure(kinds: Sequence[Kind], device: str, *, warmup: int, repeats: int) -> None:
    """Fills in seconds and bytes; kinds take turns within each repeat, so that a slow minute meets all of them."""
    with torch.inference_mode():
        for repeat in tqdm(range(warmup + repeats), desc="repeats", disable=None):
            for kind in kinds:
                once(kind, device, keep=repeat >= warmup)
        for kind in kinds:
            kind.bytes = _peak(kind, device)


class _Decoded(Net):
    """A net that has already decoded, so that what follows is timed alone."""

    def __init__(self, net: Net, logits: Tensor) -> None:
        super().__init__(num_classes=net.num_classes, align_corners=net.align_corners)
        self.logits = logits

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.logits}


def phases(
    net: Net, normalize: Normalize, mode: str, dtype: torch.dtype, layout: torch.memory_format
) -> dict[str, Callable[..., Any]]:
    """Copy and normalisation; the net up to its last resize; resize, arg-max and copy back."""
    device, whole = next(net.parameters()).device, Inference(multiple=1)
    normalize.memory_format = layout

    def logits(image: Tensor) -> Tensor:
        return net.decode(image)["logits"]

    decode = torch.compile(logits) if mode == "compile" else logits
    return {
        "pre": lambda image: normalize(image.to(device)).to(dtype),
        "net": lambda x: (x, decode(x)),
        "post": lambda both: whole.label(_Decoded(net, both[1]), both[0]).cpu(),
    }


def _session(file: str, device: str) -> Callable[[Tensor], Any]:
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


def _peak(kind: Kind, device: str) -> int | None:
    """The most bytes that a run takes besides the weights; ``None`` for onnxruntime on a GPU, which does not tell."""
    if device == "cuda":
        if len(kind.phases) == 1:
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once(kind, device, keep=False)
        return torch.cuda.max_memory_allocated() - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _status("VmRSS")
        once(kind, device, keep=False)
        return max(0, _status("VmHWM") - before)
    except OSError:  # not Linux, or not allowed
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


@functools.cache
def _rate(device: str, dtype: Any) -> float:
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
