"""What training at several image scales costs: ``python scripts/bench_scales.py``.

One net alone, inside hierarchical attention (0.5x, 1.0x) and inside explicit attention (0.5x, 1.0x, 2.0x), each with
and without activation checkpointing of the backbone. Multiply-adds are those of a forward pass in training, counted
and not timed. A step is forward, loss and backward on one random batch; all variants take turns within each repeat.

Memory: on a GPU the allocator's peak in a step above what was allocated before it; on the CPU the bytes of the tensors
that autograd keeps between forward and backward, parameters left out. The latter is no peak: what is computed again
in the backward pass is not in it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

from src.build import allowed, from_config
from src.build.instantiate import instantiate
from src.losses import Supervision
from src.runtime.environment import environment

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"single": "none", "hierarchical": "hierarchical", "explicit": "explicit"}  # name -> model/scales
SMALL = ["model.net.backbone.name=hrnet_w18_small"]
CLASSES = 19
COLUMNS = ("method", "G multiply-adds, net", "of single", "with the head", "checkpointing", "ms a step", "of single")


@dataclass
class Variant:
    """One net ready to take steps."""

    method: str
    checkpointing: bool
    net: nn.Module
    supervision: Supervision
    image: Tensor
    label: Tensor

    def forward(self) -> Tensor:
        return self.supervision(self.net(self.image), self.label)[0]

    def step(self) -> tuple[float, int]:
        """Wall seconds of forward, loss and backward, and bytes, see the top."""
        self.net.zero_grad(set_to_none=True)
        if not self.image.is_cuda:
            start = time.perf_counter()
            self.forward().backward()
            return time.perf_counter() - start, 0
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        self.forward().backward()
        torch.cuda.synchronize()
        return time.perf_counter() - start, torch.cuda.max_memory_allocated() - before

    def kept(self) -> int:
        """Bytes that one forward pass keeps for the backward pass, parameters left out."""
        own = {p.untyped_storage().data_ptr() for p in self.net.parameters()}
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = self.forward()
        del loss
        return sum(storages.values())


def make(method: str, checkpointing: bool, options: argparse.Namespace) -> Variant:
    """The variant on the device, with a random batch."""
    chosen = [f"model={options.model}", f"model/scales={METHODS[method]}", f"data.num_classes={CLASSES}"]
    chosen += [f"model.net.backbone.checkpointing={str(checkpointing).lower()}", *options.overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=chosen)
    torch.manual_seed(0)
    net = from_config.build_net(cfg).train().to(options.device)
    weights = {name: weight for name, weight in (cfg.model.aux_weights or {}).items() if weight is not None}
    supervision = Supervision(instantiate(cfg.loss, allowed.LOSS), weights).to(options.device)
    image = torch.randn(options.batch_size, 3, *options.size, device=options.device)
    label = torch.randint(CLASSES, (options.batch_size, *options.size), device=options.device)
    return Variant(method, checkpointing, net, supervision, image, label)


def multiply_adds(variant: Variant) -> tuple[int, int]:
    """Those of a forward pass in training: of the net at all its scales, and of the attention head."""
    net, image = variant.net, variant.image
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image)
    parts = counter.get_flop_counts()
    head = sum(parts.get(f"{type(net).__name__}.attention", {}).values())
    return (counter.get_total_flops() - head) // 2, head // 2


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """One row per variant."""
    variants = [make(method, again, options) for method in METHODS for again in (False, True)]
    costs = [multiply_adds(variant) for variant in variants]
    kept = [0 if variant.image.is_cuda else variant.kept() for variant in variants]
    for variant in variants:
        variant.step()  # chooses kernels
    turns = [[variant.step() for variant in variants] for _ in trange(options.repeats, unit="repeat", disable=None)]
    rows = []
    for i, variant in enumerate(variants):
        times = [1000 * turn[i][0] for turn in turns]
        rows.append(
            {
                "method": variant.method,
                "checkpointing": variant.checkpointing,
                "net_macs": costs[i][0],
                "head_macs": costs[i][1],
                "step_ms": statistics.median(times),
                "step_spread_ms": statistics.pstdev(times),
                "bytes": kept[i] or max(turn[i][1] for turn in turns),
            }
        )
    return rows


def table(rows: list[dict[str, object]], options: argparse.Namespace, about: dict[str, object]) -> str:
    """Markdown."""
    memory = "peak MiB of a step" if options.device == "cuda" else "MiB kept for backward"
    lines = ["| " + " | ".join([*COLUMNS, memory, "of single"]) + " |", "|" + "---|" * (len(COLUMNS) + 2)]
    first = rows[0]
    for row in rows:
        cells = [
            row["method"],
            f"{row['net_macs'] / 1e9:.2f}",
            f"{row['net_macs'] / first['net_macs']:.2f}",
            f"{(row['net_macs'] + row['head_macs']) / 1e9:.2f}",
            "yes" if row["checkpointing"] else "no",
            f"{row['step_ms']:.0f} ± {row['step_spread_ms']:.0f}",
            f"{row['step_ms'] / first['step_ms']:.2f}",
            f"{row['bytes'] / 2**20:.0f}",
            f"{row['bytes'] / first['bytes']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    height, width = options.size
    command = shlex.join(["python", "scripts/bench_scales.py", *sys.argv[1:]])
    net = " ".join([f"model={options.model}", *options.overrides])
    lines.append(
        f"\n`{command}`: `{net}`, {CLASSES} classes, batches of {options.batch_size}, {height}x{width}, float32;"
        f" median ± standard deviation over {options.repeats} repeats."
        f" {about['device']}, {about['threads']} thread(s); Python {about['python']}, torch"
        f" {about['packages']['torch']}; {about['time'][:10]}, commit {about['commit'][:7]}."
    )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the config, such as model.net.backbone.name=hrnet_w32")
    parser.add_argument("--model", default="hrnet_ocr", help="of conf/model, without scales [hrnet_ocr]")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="[512 1024, on the CPU 128 256]")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    options.size = options.size or ([512, 1024] if options.device == "cuda" else [128, 256])
    if options.device == "cpu" and options.model == "hrnet_ocr" and not options.overrides:
        options.overrides = SMALL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rows = measure(options)
    about = environment()
    print(table(rows, options, about))
    if options.json:
        options.json.write_text(
            json.dumps({"environment": about, "options": vars(options) | {"json": None}, "rows": rows})
        )


if __name__ == "__main__":
    main()
