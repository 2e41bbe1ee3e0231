"""What the training pipeline costs beside its floor, which is decoding alone: ``python scripts/bench_data.py``.

Both are timed in turn in one process on one core, over the same files: decode image and label; then the whole sample
(decode, map label values, scale, crop, flip, colour) and its share of a batch. Pairs: CamVid if ``--camvid`` names its
folder, and generated 1024x2048 PNGs.
"""

from __future__ import annotations

import argparse
import json
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

from src.data import FileSource, LabelSpace, Pair, SampleKey, SegmentationDataset
from src.data.augment.pipeline import train_transform
from src.data.decoding import read_image, read_label
from src.data.epoch_batches import collate
from src.data.sets.camvid import camvid
from src.data.sets.toy_streets import ToyStreets
from src.metrics import ConfusionMatrix
from src.runtime.environment import environment

BATCH = 8
MEAN = [0.4, 0.4, 0.4]


def large_pairs(folder: Path, count: int, height: int = 1024) -> FileSource:
    """Toy streets, twice as wide as high, as PNG files: at 1024x2048 the size and kind of Cityscapes."""
    source, pairs = ToyStreets(split="train", length=count, height=height, width=2 * height), []
    for index in range(count):
        image, label = source.read(index)
        paths = [folder / f"{index}_{kind}.png" for kind in ("image", "label")]
        cv2.imwrite(str(paths[0]), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(paths[1]), label)
        pairs.append(Pair(*paths, str(index)))
    return FileSource(pairs, LabelSpace(source.label_space.names, source.label_space.colors))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(source: FileSource, crop: list[int], scale: list[float], repeats: int) -> dict[str, object]:
    """Milliseconds per image of decoding and of the whole pipeline, in turn, with their spread over repeats."""
    transform = train_transform(
        crop_size=crop, scale=scale, mean=MEAN, brightness=0.4, contrast=0.4, saturation=0.4, max_class_share=0.75
    )
    dataset = SegmentationDataset(source, transform)
    indices = range(min(len(source), 64))

    def decode() -> None:
        for index in indices:
            read_image(source.pairs[index].image)
            read_label(source.pairs[index].label)

    def pipeline(seed: int) -> None:
        samples = [dataset[SampleKey(index, seed + index)] for index in indices]
        for start in range(0, len(samples), BATCH):
            collate(samples[start : start + BATCH])

    decode()
    pairs = [(seconds(decode), seconds(lambda: pipeline(64 * i))) for i in range(repeats)]  # noqa: B023
    floor, whole = ([1000 * pair[k] / len(indices) for pair in pairs] for k in (0, 1))
    return {
        "decode_ms": round(statistics.median(floor), 2),
        "decode_spread_ms": round(statistics.pstdev(floor), 2),
        "pipeline_ms": round(statistics.median(whole), 2),
        "pipeline_spread_ms": round(statistics.pstdev(whole), 2),
        "images_per_second_and_core": round(1000 / statistics.median(whole), 1),
        "share_not_decoding": round(1 - statistics.median(floor) / statistics.median(whole), 3),
        "images": len(indices),
        "repeats": repeats,
        "crop": crop,
        "scale": scale,
    }


def measure_confusion(source: FileSource, repeats: int) -> dict[str, float]:
    """Milliseconds of one update with uint8 maps on the CPU, beside one pass of NumPy's bin count over 64-bit keys."""
    label = torch.from_numpy(source.read(0)[1])
    prediction = torch.from_numpy(source.read(1)[1]).where(label != 255, 0)
    prediction = prediction.where(prediction != 255, 0)
    matrix = ConfusionMatrix(source.label_space.num_classes)
    keys = label.numpy().astype(np.int64).ravel() * 256 + prediction.numpy().ravel()
    times = [
        (seconds(lambda: matrix.update(prediction, label)), seconds(lambda: np.bincount(keys, minlength=1 << 16)))
        for _ in range(5 * repeats)
    ]
    ours, bincount = ([1000 * pair[k] for pair in times] for k in (0, 1))
    return {
        "update_ms": round(statistics.median(ours), 2),
        "update_spread_ms": round(statistics.pstdev(ours), 2),
        "bincount_without_keys_ms": round(statistics.median(bincount), 2),
    }


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="CamVid folder (480x360, 11 classes)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    scales = [0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    results: dict[str, object] = {"environment": environment()}
    if options.camvid:
        source = camvid(root=options.camvid, split="train")
        results["camvid 480x360"] = measure(source, [360, 480], scales, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        source = large_pairs(Path(folder), 16)
        results["png 1024x2048"] = measure(source, [512, 1024], scales, options.repeats)
        halved = [scale / 2 for scale in scales]  # the paper: crop 1024x2048, then halve; here one resize
        results["png 1024x2048, paper's half size"] = measure(source, [512, 1024], halved, options.repeats)
        results["confusion matrix 1024x2048"] = measure_confusion(source, options.repeats)
    text = json.dumps(results, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
