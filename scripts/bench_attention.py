"""Asymmetric against full non-local attention, the efficiency claim of arXiv 1908.07678.

Modules alone, in evaluation: 2048 channels in and out, 256 of key and value, query and key shared, no merge
convolution, batch 1, fp32 without TF32. ``naive`` forms the matrix of similarities, which the claim is about; ``fused``
does not, which removes most of the full block's memory. Blocks are timed in turn after a first run that does not count:
on CUDA by the clock, else by the processor time of all threads, which other processes do not lengthen.

Memory is what a forward adds at its peak to weights and input: on CUDA by the allocator's counter, reset before each
block; else by the peak of resident memory (Linux), in a fresh process for each block, so scratch space is included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor
from tqdm import tqdm

from src.models.ann_layers import NonLocalBlock
from src.models.ann_samplers import Sampler
from src.runtime.environment import environment

CHANNELS, WIDTH = 2048, 256
BLOCKS = ("NB", "APNB")
MIB = 1 << 20
COLUMNS = ("H x W", "N", "attention", "block", "G multiply-adds", "time, ms", "peak memory, MiB")


def create(block: str, attention: str, device: str) -> NonLocalBlock:
    """The block in evaluation; its merge is never called."""
    sampler = Sampler() if block == "APNB" else None
    options = {"key_channels": WIDTH, "value_channels": WIDTH, "sharing": "query_key", "merge": "residual"}
    return NonLocalBlock(CHANNELS, sampler=sampler, attention=attention, **options).eval().to(device)


def multiply_adds(block: str, positions: int) -> int:
    """Of three 1x1 convolutions and two products with N or S keys; pooling and softmax are not counted."""
    keys = positions if block == "NB" else Sampler().count
    return 3 * CHANNELS * WIDTH * positions + 2 * WIDTH * positions * keys


def seconds(module: NonLocalBlock, x: Tensor) -> float:
    """Time of one forward, to the end of the device's work."""
    clock = time.perf_counter if x.is_cuda else time.process_time
    start = clock()
    module.gather(x, x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def times(attentions: Sequence[str], size: tuple[int, int], device: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each repeat, by block and attention."""
    x = torch.randn(1, CHANNELS, *size, device=device)
    modules = {f"{block} {attention}": create(block, attention, device) for attention in attentions for block in BLOCKS}
    taken: dict[str, list[float]] = {name: [] for name in modules}
    for _ in tqdm(range(1 + repeats), desc=f"{size[0]}x{size[1]}", disable=None):
        for name, module in modules.items():
            taken[name].append(1000 * seconds(module, x))
    return {name: values[1:] for name, values in taken.items()}


@torch.no_grad()
def peak(block: str, attention: str, size: tuple[int, int], device: str, threads: int) -> float:
    """MiB that a forward adds at its peak; off CUDA this must run in a process of its own."""
    torch.set_num_threads(threads)
    module, x = create(block, attention, device), torch.randn(1, CHANNELS, *size, device=device)
    small = x[:, :, :16, :16].contiguous()
    module.gather(small, small)  # libraries allocate once
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        module.gather(x, x)
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present size now
    before = resident("VmRSS")
    module.gather(x, x)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """MiB of a line of this process's status: VmRSS now, VmHWM at its peak."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024


def peak_alone(*arguments: object) -> float:
    """``peak`` in a fresh process, unless on CUDA, which has counters."""
    if str(arguments[3]).startswith("cuda"):
        return peak(*arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, arguments)


def measure(sizes: Sequence[tuple[int, int]], attentions: Sequence[str], device: str, repeats: int) -> list[dict]:
    """One row per size, attention and block."""
    rows = []
    for size in sizes:
        taken = times(attentions, size, device, repeats)
        for name, values in taken.items():
            block, attention = name.split()
            rows.append(
                {
                    "height": size[0],
                    "width": size[1],
                    "positions": size[0] * size[1],
                    "attention": attention,
                    "block": block,
                    "gmacs": round(multiply_adds(block, size[0] * size[1]) / 1e9, 2),
                    "ms": round(statistics.median(values), 2),
                    "ms_spread": round(statistics.pstdev(values), 2),
                    "mib": round(peak_alone(block, attention, size, device, torch.get_num_threads()), 1),
                }
            )
    return rows


def table(rows: Sequence[dict]) -> Iterator[str]:
    """Lines of Markdown: the rows, and NB over APNB after each pair."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    for full, asymmetric in zip(rows[::2], rows[1::2], strict=True):
        start = f"| {full['height']} x {full['width']} | {full['positions']:,} | {full['attention']} |"
        for row in (full, asymmetric):
            yield f"{start} {row['block']} | {row['gmacs']:.2f} | {row['ms']} ± {row['ms_spread']} | {row['mib']:,} |"
        ratios = " | ".join(f"{full[key] / asymmetric[key]:.1f}" for key in ("gmacs", "ms", "mib"))
        yield f"{start} NB / APNB | {ratios} |"


def growth(rows: Sequence[dict]) -> Iterator[str]:
    """Lines of Markdown: what the last step in size does to time and memory."""
    last = max(row["positions"] for row in rows)
    before = max((row["positions"] for row in rows if row["positions"] < last), default=None)
    if before is None:
        return
    yield f"From N = {before:,} to {last:,}, a factor of {last / before:.2f}:"
    yield ""
    yield "| attention | block | time | peak memory |"
    yield "|---|---|---|---|"
    for row in (row for row in rows if row["positions"] == last):
        same = (r for r in rows if r["positions"] == before)
        old = next(r for r in same if (r["attention"], r["block"]) == (row["attention"], row["block"]))
        ratios = " | ".join(f"{row[key] / old[key]:.2f}" for key in ("ms", "mib"))
        yield f"| {row['attention']} | {row['block']} | {ratios} |"


def machine(device: str) -> str:
    """The device's name, and how much of it is used."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    return f"{found[1] if found else platform.machine()}, {torch.get_num_threads()} thread(s)"


def parse_size(text: str) -> tuple[int, int]:
    """``128x256`` -> (128, 256)."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or min(int(found[1]), int(found[2])) < 16:
        raise argparse.ArgumentTypeError(f"size {text} is not <height>x<width> with 16 or more each")
    return int(found[1]), int(found[2])


def main() -> None:
    """Measures, prints Markdown and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=20, help="of each block (the paper's 20)")
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=[(96, 96), (128, 128), (128, 256)])
    parser.add_argument("--attention", choices=("naive", "fused"), nargs="+", default=["naive", "fused"])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    if "naive" not in options.attention:
        parser.error("--attention fused hides what is compared, the memory of a full block; add naive")
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; use 1 or more")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        rows = measure(options.sizes, options.attention, options.device, options.repeats)
    about = environment() | {"device": machine(options.device), "repeats": options.repeats}
    print("\n".join([*table(rows), "", *growth(rows), ""]))
    print(f"{about['device']}; Python {about['python']}, torch {about['packages']['torch']}, CUDA {about['cuda']};")
    print(f"commit {about['commit'][:7]}; {options.repeats} repeats, median ± standard deviation; {about['command']}")
    if options.json:
        options.json.write_text(json.dumps({"environment": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
