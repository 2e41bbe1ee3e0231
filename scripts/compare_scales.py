"""Average, maximum, explicit and hierarchical scales around one net on toy streets: python scripts/compare_scales.py

Repeats the comparison of hierarchical multi-scale attention (Tao et al., arXiv 2005.10821, section 4.1) in small: what
scales gain over one, and what becomes of each when 0.25 is added that none was trained at. Toy streets hold poles and
signs a few pixels wide beside roads and walls that fill the picture. Pooled scales are those of the net that was
trained at one scale, as in the paper. Each training is a run of src.train; those that ended are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from src.runtime.environment import environment  # noqa: E402

TRAININGS = {"single": [], "explicit": ["model/scales=explicit"], "hierarchical": ["model/scales=hierarchical"]}
THREE, FOUR = "[0.5,1.0,2.0]", "[0.25,0.5,1.0,2.0]"
SCORED = {  # row: the training it uses, and how it is scored
    "single, 1": ("single", []),
    "single, 0.25 alone": ("single", ["inference.scales=[0.25]"]),
    "single, 0.5 alone": ("single", ["inference.scales=[0.5]"]),
    "single, 2 alone": ("single", ["inference.scales=[2.0]"]),
    "average, 0.5 1 2": ("single", ["model/scales=average", f"model.scales.scales={THREE}"]),
    "average, 0.25 0.5 1 2": ("single", ["model/scales=average", f"model.scales.scales={FOUR}"]),
    "max, 0.5 1 2": ("single", ["model/scales=max", f"model.scales.scales={THREE}"]),
    "max, 0.25 0.5 1 2": ("single", ["model/scales=max", f"model.scales.scales={FOUR}"]),
    "explicit, 0.5 1 2": ("explicit", []),
    "hierarchical, 1": ("hierarchical", ["model/scales=hierarchical", "model.scales.scales=[1.0]"]),
    "hierarchical, 0.5 1": ("hierarchical", ["model/scales=hierarchical", "model.scales.scales=[0.5,1.0]"]),
    "hierarchical, 0.5 1 2": ("hierarchical", ["model/scales=hierarchical", f"model.scales.scales={THREE}"]),
    "hierarchical, 0.25 0.5 1 2": ("hierarchical", ["model/scales=hierarchical", f"model.scales.scales={FOUR}"]),
}


def main() -> None:
    """Trains what is missing, scores every row, prints a table and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/compare_scales"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.5, help="of BiSeNetV2")
    args = parser.parse_args()
    shared = [
        f"model.net.width_multiplier={args.width}",
        "transforms.scale=[0.5,2.0]",
        f"trainer.max_epochs={args.epochs}",
        f"trainer.check_val_every_n_epoch={args.epochs}",
        "logger=none",
    ]
    out = args.out.resolve() / f"width_{args.width:g}_epochs_{args.epochs}"
    scores: dict[str, list[dict]] = {row: [] for row in SCORED}
    for seed in args.seeds:
        for training, overrides in TRAININGS.items():
            folder = out / f"{training}_{seed}"
            if not (folder / "scores_test.json").is_file():
                call("src.train", f"seed={seed}", *shared, *overrides, f"hydra.run.dir={folder}", "resume=auto")
        for row, (training, overrides) in SCORED.items():
            ckpt, folder = out / f"{training}_{seed}/checkpoints/best.ckpt", out / f"{slug(row)}_{seed}"
            if not (folder / "scores_test.json").is_file():
                call("src.evaluate", f"ckpt={ckpt}", "split=test", *overrides, f"hydra.run.dir={folder}")
            scores[row].append(json.loads((folder / "scores_test.json").read_text()))
    (out / "results.json").write_text(
        json.dumps({"environment": environment(), "command": sys.argv, "scores": scores}, indent=1)
    )
    print(table(scores))


def call(module: str, *overrides: str) -> None:
    """One command, whose output goes to the terminal."""
    command = [sys.executable, "-m", module, *overrides]
    print(" ".join(command[1:]), flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def slug(row: str) -> str:
    """A row's name as that of a folder."""
    return row.replace(", ", "_").replace(" ", "-")


def table(scores: dict[str, list[dict]]) -> str:
    """Mean and spread of mIoU over the seeds, and the mean IoU of each class."""
    classes = list(next(iter(scores.values()))[0]["iou"])
    lines = ["| scales | mIoU | " + " | ".join(classes) + " |", "|---" * (len(classes) + 2) + "|"]
    for row, runs in scores.items():
        miou = [100 * run["miou"] for run in runs]
        spread = f" ± {statistics.stdev(miou):.1f}" if len(miou) > 1 else ""
        cells = [f"{100 * statistics.mean(run['iou'][name] or 0 for run in runs):.1f}" for name in classes]
        lines.append(f"| {row} | {statistics.mean(miou):.1f}{spread} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
