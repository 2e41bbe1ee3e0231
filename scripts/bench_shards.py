"""Reading shards beside plain files, the same images in the same random order: ``python scripts/bench_shards.py``.

Both are timed in turn in one process on one core: reading alone (the bytes of image and label), with the files in
memory, by processor time, and with them dropped from it first, by the clock; then reading with decoding, by processor
time. CamVid if ``--camvid`` names its folder, else generated 512x1024 PNGs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from scripts.bench_data import large_pairs
from src.data import FileSource
from src.data.sets.camvid import camvid
from src.data.shards.source import shards
from src.data.shards.writer import write_shards
from src.runtime.environment import environment


def drop(paths: Iterable[Path]) -> None:
    """Asks the system to forget the files' content."""
    for path in paths:
        number = os.open(path, os.O_RDONLY)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def rate(work: Callable[[int], object], order: Sequence[int], clock: Callable[[], float]) -> float:
    """Samples a second."""
    start = clock()
    for index in order:
        work(index)
    return len(order) / (clock() - start)


def measure(files: FileSource, folder: Path, repeats: int) -> dict[str, object]:
    """Samples a second of both, median of the repeats."""
    write_shards(files, folder, split="train", shard_mb=64)
    source = shards(root=folder, split="train")
    order = np.random.default_rng(0).permutation(len(files)).tolist()

    def plain(index: int) -> None:
        pair = files.pairs[index]
        pair.image.read_bytes(), pair.label.read_bytes()

    def sharded(index: int) -> None:
        source._content(index, 0), source._content(index, 3)

    paths = [path for pair in files.pairs for path in (pair.image, pair.label)]
    tars = list(folder.glob("*.tar"))
    ways = {
        "read, files": (plain, ()),
        "read, shards": (sharded, ()),
        "read from disk, files": (plain, paths),
        "read from disk, shards": (sharded, tars),
        "decoded, files": (files.read, ()),
        "decoded, shards": (source.read, ()),
    }
    rates = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (work, forgotten) in ways.items():
            drop(forgotten)
            rates[name].append(rate(work, order, time.perf_counter if forgotten else time.process_time))
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="CamVid folder (480x360, 11 classes)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        files = camvid(root=options.camvid, split="train") if options.camvid else large_pairs(Path(folder), 64, 512)
        result = measure(files, Path(folder) / "shards", options.repeats)
    print(json.dumps({"samples a second": result, "samples": len(files), "environment": environment()}, indent=2))


if __name__ == "__main__":
    main()
