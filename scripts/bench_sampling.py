"""What class-uniform sampling costs, and what it changes: ``python scripts/bench_sampling.py --camvid data/camvid``.

Cost: looking through the labels of a data set beside decoding them once, and drawing an epoch of 25,000 images. Change:
the share of each class in the pixels of an epoch's crops, and of the crops that show it, beside plain shuffling.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch

from scripts.bench_data import large_pairs, seconds
from src.data import FileSource, LabelSpace, SampleKey, SegmentationDataset, Source
from src.data.augment.pipeline import train_transform
from src.data.cache import cache_dir
from src.data.decoding import read_label
from src.data.sampling.class_index import class_index
from src.data.sampling.samplers import ClassUniform, Draw, Shuffle
from src.data.sets.camvid import camvid
from src.runtime.environment import environment


class Simulated:
    """Labels of 12 tiles, each with a dozen of 65 classes, as in Mapillary Vistas; only their size is not real."""

    tile = 4

    def __init__(self, count: int) -> None:
        self.count = count
        self.label_space = LabelSpace([f"class {i}" for i in range(65)], [(i, i, i) for i in range(65)])

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.random.default_rng(index).integers(0, 65, (3 * self.tile, 4 * self.tile), dtype=np.uint8)
        return np.zeros((*label.shape, 3), np.uint8), label


def spread(times: list[float]) -> str:
    """Least, median and standard deviation in milliseconds."""
    least, middle = 1000 * min(times), 1000 * statistics.median(times)
    return f"{least:.3g}, median {middle:.3g} ± {1000 * statistics.pstdev(times):.2g} ms"


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of one call in all threads, which other programs disturb less than wall time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cost_of_index(source: FileSource, repeats: int) -> dict[str, object]:
    """Processor time of reading the labels, of decoding them and of the index; wall time of the index, new and kept.

    Reading yields the values a file stores, decoding the train ids (``source.read_label``). The ratios are those of the
    least times, to which other programs add nothing.
    """
    labels = [pair.label for pair in source.pairs]
    ways = {
        "reading, processor": lambda: processor_seconds(lambda: [read_label(label) for label in labels]),
        "decoding, processor": lambda: processor_seconds(lambda: [source.read_label(i) for i in range(len(labels))]),
        "index, processor": lambda: processor_seconds(lambda: _fresh_index(source)),
        "index, wall": lambda: seconds(lambda: _fresh_index(source)),
        "kept index, wall": lambda: seconds(lambda: class_index(source, 1024)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(way())
    reading, decoding, whole = (min(times[f"{name}, processor"]) for name in ("reading", "decoding", "index"))
    result = {name: spread(values) for name, values in times.items()}
    ratios = {"index over reading": round(whole / reading, 2), "index over decoding": round(whole / decoding, 2)}
    return {"labels": len(labels), **result, **ratios}


def _fresh_index(source: Source) -> None:
    shutil.rmtree(cache_dir(), ignore_errors=True)
    class_index(source, 1024)


def cost_of_drawing(count: int, repeats: int) -> dict[str, object]:
    """Seconds and bytes of an epoch over simulated images."""
    source = Simulated(count)
    index = class_index(source, source.tile)
    draw = ClassUniform(tile=source.tile).draws(source, count)
    times = [seconds(lambda epoch=epoch: draw(np.random.default_rng([0, epoch]), epoch)) for epoch in range(repeats)]
    size = f"{(index.points.nbytes + index.ends.nbytes) / 1e6:.1f} MB"
    return {"images": count, "points": len(index.points), "index in memory": size, "an epoch": spread(times)}


def shown(draw: Draw, dataset: SegmentationDataset, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each class in the labelled pixels of crops, and of the crops that show it, over some epochs."""
    pixels, crops, count = np.zeros(256), np.zeros(256), 0
    for epoch in range(epochs):
        for place, (image, row, column) in enumerate(draw(np.random.default_rng([0, epoch]), epoch).tolist()):
            key = SampleKey(image, 1000 * epoch + place, None if row < 0 else (row, column))
            found = np.bincount(dataset[key]["label"].numpy().ravel(), minlength=256)
            pixels, crops, count = pixels + found, crops + (found > 0), count + 1
    return pixels[:255] / pixels[:255].sum(), crops[:255] / count


def change(source: Source, crop: list[int], scale: list[float], tiles: list[int], epochs: int) -> str:
    """A table: a row for each class, a pair of columns for each way to sample (fraction and tile)."""
    dataset = SegmentationDataset(source, train_transform(crop_size=crop, scale=scale, mean=[0.4] * 3))
    ways: dict[str, Shuffle] = {"shuffle": Shuffle()}
    for fraction in (0.5, 1.0):
        ways |= {f"{fraction} of {tile}": ClassUniform(fraction=fraction, tile=tile) for tile in tiles}
    found = {way: shown(sampler.draws(source, len(source)), dataset, epochs) for way, sampler in ways.items()}
    names = source.label_space.names
    width = max(map(len, names))
    lines = [
        f"{epochs} epochs of {len(source)} crops of {crop[0]}x{crop[1]}, scale {scale}: % of pixels, % of crops",
        f"{'class':<{width}}" + "".join(f"{way:>20}" for way in found),
    ]
    for i, name in enumerate(names):
        cells = (f"{100 * pixels[i]:11.2f} {100 * crops[i]:8.1f}" for pixels, crops in found.values())
        lines.append(f"{name:<{width}}{''.join(cells)}")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="CamVid folder (480x360, 11 classes)")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    results: dict[str, object] = {"environment": environment()}
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMSEG_CACHE"] = f"{folder}/cache"
        if options.camvid:
            source = camvid(root=options.camvid, split="train")
            results["index of camvid 480x360"] = cost_of_index(source, options.repeats)
            for crop, scale in (([192, 256], [0.5, 1.5]), ([96, 128], [1.0])):
                tables.append(change(source, crop, scale, [1024, 128], options.epochs))
        results["index of png 1024x2048"] = cost_of_index(large_pairs(Path(folder), 32), options.repeats)
        results["drawing"] = cost_of_drawing(25_000, options.repeats)
    print(json.dumps(results, indent=2), *tables, sep="\n\n")


if __name__ == "__main__":
    main()
