"""What it costs to segment a huge image: ``python scripts/bench_huge.py --size 20000``.

Draws a mosaic of toy streets as TIFF or PNG, segments it with an untrained net in a process of its own, and again in
one that is killed when half that time has passed and then called once more. Prints time and the largest resident memory
of all three, and fails if the files differ.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import rasterio
import torch
from hydra import compose, initialize_config_dir
from tqdm import trange

from src.build import from_config
from src.checkpoints.io import METADATA_KEY
from src.data.sets.toy_streets import ToyStreets

ROOT = Path(__file__).resolve().parent.parent
SIDE = 512  # of a stone of the mosaic


def draw(path: Path, size: int) -> None:
    """A mosaic of ``size`` x ``size`` pixels, row by row, so that memory does not limit it."""
    scenes = ToyStreets(split="train", length=8, height=SIDE, width=SIDE)
    stones = [scenes.read(index)[0].transpose(2, 0, 1) for index in range(8)]
    order = np.random.default_rng(0)
    kind = {"driver": "GTiff", "tiled": True, "compress": "deflate", "photometric": "RGB", "BIGTIFF": "IF_SAFER"}
    plain = path.with_suffix(".tif")
    with rasterio.open(plain, "w", width=size, height=size, count=3, dtype="uint8", **kind) as file:
        for top in trange(0, size, SIDE, desc="drawing", disable=None):
            for left in range(0, size, SIDE):
                stone = stones[order.integers(8)][:, : size - top, : size - left]
                rows, columns = (top, top + stone.shape[1]), (left, left + stone.shape[2])
                file.write(stone, window=(rows, columns))
    if path.suffix == ".png":
        from rasterio.shutil import copy

        copy(plain, path, driver="PNG", zlevel=1)
        plain.unlink()


def save_net(path: Path, overrides: list[str]) -> None:
    """An untrained checkpoint."""
    torch.manual_seed(0)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[*overrides, "run_dir=none"])
    module = from_config.build_module(cfg, ToyStreets.label_space)
    metadata = {**module.metadata, "label_space": module.label_space.to_dict()}
    torch.save({"state_dict": module.state_dict(), METADATA_KEY: metadata}, path)


def segment(command: list[str], *, killed_after: float | None = None) -> float:
    """Runs a command; returns its seconds."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            process.wait(killed_after)
        except subprocess.TimeoutExpired:
            process.kill()
    if killed_after is None and process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start


def digests(folder: Path) -> dict[str, str]:
    """File -> hash of its content."""
    files = sorted(path for path in folder.rglob("*.*") if path.is_file() and path.suffix in (".tif", ".csv"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20000, help="side of the image in pixels")
    parser.add_argument("--format", choices=("tif", "png"), default="tif")
    parser.add_argument("--folder", type=Path, help="for the files, which stay [a temporary one]")
    parser.add_argument("--net", nargs="*", default=["model=bisenetv2", "model.net.width_multiplier=0.25"])
    parser.add_argument("overrides", nargs="*", help="of src.predict, such as 'save=[index,area]'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        image = folder / f"image.{options.format}"
        draw(image, options.size)
        save_net(folder / "net.ckpt", options.net)
        command = [sys.executable, "-m", "src.predict", f"ckpt={folder}/net.ckpt", f"source={image}", "device=cpu"]
        command += ["huge.pixels=1000000", *options.overrides]
        whole = segment([*command, f"out={folder}/whole"])
        segment([*command, f"out={folder}/killed"], killed_after=whole / 2)
        rest = segment([*command, f"out={folder}/killed"])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        same = digests(folder / "whole") == digests(folder / "killed") != {}
        print(f"{options.size}x{options.size} {options.format}, {image.stat().st_size / 2**20:.0f} MiB: {whole:.0f} s;")
        print(f"killed after {whole / 2:.0f} s, then {rest:.0f} s, {'the same files' if same else 'OTHER FILES'};")
        print(f"largest resident memory {peak:.2f} GiB")
        sys.exit(not same)


if __name__ == "__main__":
    main()
