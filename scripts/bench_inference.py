"""What the ways to apply a net cost and gain: python scripts/bench_inference.py CHECKPOINT [data.root=FOLDER ...]

Each way labels every image of a split; the ways take turns image by image, so that whatever else the machine does hits
all alike. Time is that of one image from uint8 to labels, at batch size 1, decoding excluded. Memory is the peak above
what was taken before the image: on a GPU the allocator's, on the CPU the process's, in a process for each way.
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

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from tqdm import tqdm

from src.build import from_checkpoint, from_config
from src.cli.prepare import evaluate as prepare_evaluate
from src.metrics import ConfusionMatrix, Scores
from src.runtime.environment import environment
from src.training.module import SegmentationModule

ROOT = Path(__file__).resolve().parent.parent
ALONE, THREE = ["model.scales.scales=[1.0]"], "[0.5,1.0,2.0]"
AVERAGE = ["model/scales=none", f"inference.scales={THREE}"]
WINDOWS = ["inference/window=sliding", "inference.window.size=[256,256]"]
HIERARCHICAL = {
    "once": ALONE,
    "once, mirrored": [*ALONE, "inference.flip=true"],
    "windows of 256x256": [*ALONE, *WINDOWS],
    "average of 0.5, 1, 2": AVERAGE,
    "average of 0.5, 1, 2, mirrored": [*AVERAGE, "inference.flip=true"],
    "hierarchical 0.5, 1": ["model.scales.scales=[0.5,1.0]"],
    "hierarchical 0.5, 1, 2": [f"model.scales.scales={THREE}"],
    "hierarchical 0.5, 1, 2, mirrored": [f"model.scales.scales={THREE}", "inference.flip=true"],
}
PLAIN = {
    name: [each for each in ways if each not in ALONE] for name, ways in HIERARCHICAL.items() if "hier" not in name
}


def config(ckpt: str, overrides: list[str]) -> DictConfig:
    """What ``python -m src.evaluate`` would run."""
    name, overrides = prepare_evaluate([f"ckpt={ckpt}", *overrides])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(name, overrides=overrides)


def load(cfg: DictConfig, device: str) -> SegmentationModule:
    """The module of the checkpoint as this config applies it."""
    return from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    ).to(device)


def dataset(cfg: DictConfig) -> torch.utils.data.Dataset:
    """The images that are labelled."""
    cfg.data.splits = {"test": cfg.data.splits.get(cfg.split, [cfg.split])}
    return from_config.build_datamodule(cfg).test_dataset


def peak(ckpt: str, overrides: list[str], device: str, threads: int) -> int:
    """Bytes that labelling the first image takes at most, in this process, which does nothing else."""
    torch.set_num_threads(threads)
    cfg = config(ckpt, overrides)
    module, image = load(cfg, device), dataset(cfg)[0]["image"][None].to(device)
    module.predict_label(image[..., :64, :64])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        module.predict_label(image)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    module.predict_label(image)
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each way."""
    hierarchical = "Hierarchical" in str(
        (from_checkpoint.saved_config(options.ckpt).model.get("scales") or {}).get("_target_")
    )
    ways = {name: [*options.overrides, *each] for name, each in (HIERARCHICAL if hierarchical else PLAIN).items()}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(options.ckpt, each, options.device, torch.get_num_threads()) for each in ways.values()]
        peaks = [pool.apply(peak, job) for job in tqdm(jobs, desc="memory", unit="way", disable=None)]
    configs = [config(options.ckpt, each) for each in ways.values()]
    modules = [load(cfg, options.device) for cfg in configs]
    images = dataset(configs[0])
    counts = [ConfusionMatrix(modules[0].label_space.num_classes) for _ in ways]
    times: list[list[float]] = [[] for _ in ways]
    for index in tqdm(range(min(len(images), options.images)), desc="labelling", unit="image", disable=None):
        sample = images[index]
        image = sample["image"][None].to(options.device)
        for module, count, seconds in zip(modules, counts, times, strict=True):
            start = time.perf_counter()
            label = module.predict_label(image).cpu()
            seconds.append(time.perf_counter() - start)
            count.update(label[0], sample["label"])
    return [
        {
            "way": name,
            "overrides": ways[name],
            "ms": 1000 * statistics.median(times[i][1:]),  # the first call chooses kernels
            "spread_ms": 1000 * statistics.pstdev(times[i][1:]),
            "bytes": peaks[i],
            "miou": Scores(counts[i].compute()).miou,
        }
        for i, name in enumerate(ways)
    ]


def table(rows: list[dict[str, object]], options: argparse.Namespace, about: dict[str, object]) -> str:
    """Markdown."""
    lines = ["| how the net is applied | mIoU | ms an image | of once | MiB at most |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['way']} | {100 * row['miou']:.2f} | {row['ms']:.0f} ± {row['spread_ms']:.0f} |"
            f" {row['ms'] / rows[0]['ms']:.2f} | {row['bytes'] / 2**20:.0f} |"
        )
    command = shlex.join(["python", "scripts/bench_inference.py", *sys.argv[1:]])
    return "\n".join(
        [
            *lines,
            f"\n`{command}`: median ± standard deviation over the images. {about['device']}, {about['threads']}"
            f" thread(s); Python {about['python']}, torch {about['packages']['torch']}; {about['time'][:10]}, commit"
            f" {about['commit'][:7]}.",
        ]
    )


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt", help="checkpoint; rows of hierarchical attention need a net that was trained with it")
    parser.add_argument("overrides", nargs="*", help="as for src.evaluate: split=test data.root=FOLDER")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=1 << 30, help="at most [all]")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    rows, about = measure(options), environment()
    print(table(rows, options, about))
    if options.json:
        options.json.write_text(json.dumps({"environment": about, "command": sys.argv, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
