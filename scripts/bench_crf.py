"""Time and memory of the fully connected CRF: ``conf/inference/refine/crf.yaml``, ten updates, one image.

Images are a photo, brought to the size, and independent random pixels, the worst case: every pixel has corners of the
lattice to itself. Scores are random and smooth. After a first run that does not count, time is that of all threads of
the processor, which other processes do not lengthen, or the clock's on CUDA. Memory is what a call adds at its peak to
image and scores: on CUDA by the allocator's counter, else by resident memory (Linux) in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from tqdm import tqdm

from scripts.bench_attention import MIB, machine, parse_size, resident
from src.build import allowed
from src.build.instantiate import instantiate
from src.data.decoding import read_image
from src.files.project import CONFIG_DIR
from src.inference import DenseCRF
from src.inference.permutohedral import Permutohedral
from src.runtime.environment import environment

COLUMNS = ("image", "H x W", "classes", "corners a pixel", "two lattices, s", "whole call, s", "peak memory, MiB")
CLASSES = {(513, 513): 21, (512, 1024): 19}


def create() -> DenseCRF:
    """The preset."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return instantiate(compose("inference/refine/crf").inference.refine, allowed.INFERENCE)


def inputs(photo: Path | None, size: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    """(1,3,H,W) uint8 and (1,K,H,W) float32."""
    torch.manual_seed(0)
    rgb = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    if photo is not None:
        rgb = torch.from_numpy(cv2.resize(read_image(photo), size[::-1])).permute(2, 0, 1)[None].contiguous()
    coarse = 4 * torch.randn(1, CLASSES.get(size, 21), 65, 65)
    scores = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    return rgb.to(device), scores.to(device)


def seconds(crf: DenseCRF, rgb: Tensor, scores: Tensor) -> float:
    """Time of one call, to the end of the device's work."""
    clock = time.perf_counter if scores.is_cuda else time.process_time
    start = clock()
    crf(rgb, scores)
    if scores.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def corners(crf: DenseCRF, rgb: Tensor) -> float:
    """Corners of the lattice over positions and colours that are in use, per pixel."""
    y, x = torch.meshgrid(*(torch.arange(side) for side in rgb.shape[-2:]), indexing="ij")
    position = torch.stack([x, y]).flatten(1) / crf.bilateral_std_xy
    points = torch.cat([position, rgb[0].flatten(1).cpu() / crf.bilateral_std_rgb])
    return (len(Permutohedral.of(points).splat.starts) - 1) / x.numel()


def peak(photo: Path | None, size: tuple[int, int], device: str, threads: int) -> float:
    """MiB that a call adds at its peak; off CUDA this must run in a process of its own."""
    torch.set_num_threads(threads)
    crf, (rgb, scores) = create(), inputs(photo, size, device)
    crf(rgb[..., :32, :32], scores[..., :32, :32])  # libraries allocate once
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        crf(rgb, scores)
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present size now
    before = resident("VmRSS")
    crf(rgb, scores)
    return resident("VmHWM") - before


def measure(photo: Path | None, size: tuple[int, int], device: str, repeats: int) -> dict:
    """One row of the table."""
    crf, (rgb, scores) = create(), inputs(photo, size, device)
    arguments = (photo, size, device, torch.get_num_threads())
    whole, once = [], []
    short = DenseCRF(**vars(crf) | {"iterations": 1})
    for _ in tqdm(range(1 + repeats), desc=f"{size[0]}x{size[1]}", disable=None):
        whole.append(seconds(crf, rgb, scores))
        once.append(seconds(short, rgb, scores))
    total, single = (statistics.median(values[1:]) for values in (whole, once))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        memory = pool.apply(peak, arguments)
    return {
        "image": "photo" if photo else "random",
        "height": size[0],
        "width": size[1],
        "classes": scores.shape[1],
        "corners": round(corners(crf, rgb), 2),
        "lattices": round(single - (total - single) / (crf.iterations - 1), 2),
        "seconds": round(total, 2),
        "spread": round(statistics.pstdev(whole[1:]), 2),
        "mib": round(memory),
    }


def main() -> None:
    """Measures, prints Markdown and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, help="else random pixels alone")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=list(CLASSES))
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; use 1 or more")
    photos = [options.photo, None] if options.photo else [None]
    rows = [measure(photo, size, options.device, options.repeats) for photo in photos for size in options.sizes]
    about = environment() | {"device": machine(options.device), "repeats": options.repeats}
    print("| " + " | ".join(COLUMNS) + " |\n" + "|" + "---|" * len(COLUMNS))
    for row in rows:
        print(
            f"| {row['image']} | {row['height']} x {row['width']} | {row['classes']} | {row['corners']}"
            f" | {row['lattices']} | {row['seconds']} ± {row['spread']} | {row['mib']:,} |"
        )
    print(f"\n{about['device']}; Python {about['python']}, torch {about['packages']['torch']}, CUDA {about['cuda']};")
    print(
        f"commit {about['commit'][:7]}; {options.repeats} repeats, median ± standard deviation; {shlex.join(sys.argv)}"
    )
    if options.json:
        options.json.write_text(json.dumps({"environment": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
