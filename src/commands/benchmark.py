"""Speed and memory of a net: ``python -m src.benchmark model=NAME|ckpt=PATH [size=[512,1024]]``."""

from __future__ import annotations

import copy
import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from tqdm import tqdm

from src.build import from_checkpoint, from_config
from src.build.from_checkpoint import saved_config
from src.cli.scored_size import size_overrides
from src.errors import UserError
from src.files.atomic import write_bytes
from src.files.images import choose_device
from src.models.normalize import Normalize
from src.profiling import latency
from src.profiling.model_cost import multiply_adds, parameters
from src.reports import console
from src.runtime.environment import environment


def benchmark(cfg: DictConfig) -> list[dict[str, Any]]:
    """Measures every kind of run in turn, prints a table, writes ``benchmark.json``; returns its rows."""
    for file in _several(cfg.onnx):
        if not Path(file).is_file():
            raise UserError(f"onnx={file}: there is no such file; src.export writes one")
    console.quiet()
    device = choose_device(cfg.device)
    name, net, normalize = _subject(cfg)
    costs = {
        "parameters": parameters(net),
        "multiply_adds": multiply_adds(net, cfg.size)[0],
    }
    kinds = list(_kinds(cfg, net, normalize, device, costs["multiply_adds"]))
    with torch.inference_mode():
        for repeat in tqdm(range(cfg.warmup + cfg.repeats), desc="repeats", disable=None):
            for kind in kinds:
                latency.once(kind, device, keep=repeat >= cfg.warmup)
        for kind in kinds:
            kind.bytes = latency.peak(kind, device)
    rows, about = [_row(kind) for kind in kinds], environment()
    result = {"subject": name, "size": list(cfg.size), **costs, "rows": rows, "environment": about}
    path = Path(cfg.out) / "benchmark.json"
    write_bytes(path, (json.dumps(result, indent=1) + "\n").encode())
    console.say(f"{_table(name, cfg, costs, rows, about)}\n{path}")
    return rows


def _several(value: Any) -> list[Any]:
    """The values of an option that takes one or several."""
    return list(value) if OmegaConf.is_list(value) else [] if value is None else [value]


def _subject(cfg: DictConfig) -> tuple[str, nn.Module, nn.Module]:
    """Name, net in evaluation mode, normalisation."""
    if cfg.ckpt is not None:
        _say_size(cfg)
        module = from_checkpoint.load_module(cfg.ckpt)
        return str(cfg.ckpt), module.net.float(), module.normalize
    net = from_config.build_net(from_config.without_download(cfg)).eval()
    return str(cfg.model.name), net, Normalize([0.45] * 3, [0.25] * 3)


def _say_size(cfg: DictConfig) -> None:
    """A line where the checkpoint was scored at a size of its own, and here the net sees ``size``."""
    saved = OmegaConf.to_container(saved_config(cfg.ckpt), resolve=False)
    if scored := size_overrides(saved, []):
        words = ", ".join(item.lstrip("+") for item in scored)
        print(f"note: the checkpoint was scored with {words}; here the net sees size={list(cfg.size)}", flush=True)


def _kinds(cfg: DictConfig, net: nn.Module, normalize: nn.Module, device: str, macs: int) -> Iterator[latency.Kind]:
    """Every kind of run, with weights of its own only where mode or precision differ."""
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    images = {count: torch.randint(256, (count, 3, *cfg.size), dtype=torch.uint8) for count in _several(cfg.batch_size)}
    for precision, mode in itertools.product(_several(cfg.precision), _several(cfg.mode)):
        layout = torch.channels_last if mode != "eager" else torch.contiguous_format
        own = copy.deepcopy(net).to(device=device, dtype=dtypes[precision], memory_format=layout)
        rate = latency.rate(device, dtypes[precision])
        for count, image in images.items():
            phases = latency.phases(own, copy.deepcopy(normalize).to(device), mode, dtypes[precision], layout)
            yield latency.Kind(f"{mode}, {precision}", count, phases, image, macs * count / rate)
    for file in _several(cfg.onnx):
        for count, image in images.items():
            yield latency.Kind(f"onnxruntime, {Path(file).name}", count, {"net": latency.session(file, device)}, image)


def _row(kind: latency.Kind) -> dict[str, Any]:
    """Milliseconds of the phases and of all, images a second, memory, floor."""
    total = [sum(each) for each in zip(*kind.seconds.values(), strict=True)]
    each = {"all": total} | (kind.seconds if len(kind.phases) > 1 else {})
    times = {
        name: {"median_ms": 1000 * statistics.median(values), "p95_ms": 1000 * _percentile(values)}
        for name, values in each.items()
    }
    return {
        "kind": kind.name,
        "batch_size": kind.batch_size,
        "times": times,
        "images_per_second": kind.batch_size / statistics.median(total),
        "peak_bytes": kind.bytes,
        "floor_ms": None if kind.floor is None else 1000 * kind.floor,
    }


def _percentile(values: list[float]) -> float:
    """The 95th: no more than one in twenty is above."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def _table(name: str, cfg: DictConfig, costs: dict[str, int], rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    head = (
        "kind of run",
        "batch",
        "pre ms",
        "net ms",
        "p95",
        "post ms",
        "all ms",
        "p95",
        "images/s",
        "MiB",
        "floor ms",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        times, known = row["times"], "net" in row["times"]
        net = [f"{times[phase]['median_ms']:.2f}" if known else "" for phase in ("pre", "net", "post")]
        net.insert(2, f"{times['net']['p95_ms']:.2f}" if known else "")
        memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"
        floor = "" if row["floor_ms"] is None else f"{row['floor_ms']:.2f}"
        whole = [f"{times['all'][which]:.2f}" for which in ("median_ms", "p95_ms")]
        cells = [row["kind"], row["batch_size"], *net, *whole, f"{row['images_per_second']:.1f}", memory, floor]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(
        [
            f"{name}, {cfg.size[0]}x{cfg.size[1]}: {costs['parameters'] / 1e6:.2f} M parameters,"
            f" {costs['multiply_adds'] / 1e9:.2f} G multiply-adds an image",
            *lines,
            f"median and 95th percentile of {cfg.repeats}; floor: multiply-adds at the rate of a large matrix product",
            f"{about['device'] if cfg.device != 'cpu' else 'CPU'}, {about['threads']} thread(s), {about['platform']};"
            f" Python {about['python']}, torch {about['packages']['torch']}; {about['time'][:10]}, commit"
            f" {about['commit'][:7]}: {about['command']}",
        ]
    )
