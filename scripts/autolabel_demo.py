"""What auto-labels are worth on CamVid, end to end: ``python scripts/autolabel_demo.py --camvid FOLDER``.

For each seed, a random third of the 367 training images keeps its labels. A *teacher* is trained on it and labels the
rest; a *student* starts anew and is trained on both, half of each epoch from either; *all labels* has the true ones
of all images. Each has the same net and number of steps, and the last weights are scored once on all 233 test images.

Every step is a command that a user could type. What is finished is kept: the same command goes on after a stop. At the
end, the table goes into docs/results.md and, with every score, into results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from src.data.decoding import read_label
from src.data.sets.camvid import camvid
from src.data.source import Pair
from src.files.atomic import write_bytes
from src.runtime.environment import environment

ROOT = Path(__file__).resolve().parent.parent
SIZE = ["transforms.crop_size=[160,224]", "transforms.scale=[0.35,0.8]", "data.batch_size=8"]  # half of 480x360
NET = ["model=bisenetv2", "model.net.width_multiplier=0.5", "model.net.head_channels=128"]
WEIGHTS = "data.class_weights=[0.53,0.45,2.19,0.39,1.0,0.65,1.96,1.40,0.89,2.52,2.98]"  # as in experiment=camvid_cpu
RUNS = {"teacher": [], "student": ["sampler.extra=[auto]", "sampler.extra_share=0.5"], "all labels": []}
HEADING = "## Auto-labels on CamVid"


def run(module: str, *overrides: str, log: Path) -> None:
    """One command; its output goes to ``log``, and ends the script if the command fails."""
    started, command = time.perf_counter(), [sys.executable, "-m", f"src.{module}", *overrides]
    with log.open("ab") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"error: {shlex.join(command)}\nended with status {done.returncode}; see {log}")
    print(f"  src.{module} {log.stem}: {time.perf_counter() - started:.0f} s", flush=True)


def divide(folder: Path, options: argparse.Namespace, seed: int) -> tuple[list[Pair], list[str]]:
    """Writes a seed's lists of files and links its unlabelled images; returns these, and the options of the data."""
    pairs = camvid(root=options.camvid, split="train").pairs
    kept = set(random.Random(seed).sample(range(len(pairs)), len(pairs) // 3))
    parts = {name: camvid(root=options.camvid, split=name).pairs for name in ("val", "test")}
    parts["train"] = [pair for index, pair in enumerate(pairs) if index in kept]
    parts["rest"] = [pair for index, pair in enumerate(pairs) if index not in kept]
    for name, part in parts.items():
        lines = (
            f"{pair.image.relative_to(options.camvid)} {pair.label.relative_to(options.camvid)}\n" for pair in part
        )
        write_bytes(folder / f"{name}.txt", "".join(lines).encode())
    (folder / "pool/auto").mkdir(parents=True, exist_ok=True)
    for pair in parts["rest"]:
        link = folder / "pool/auto" / pair.image.name
        if not link.is_symlink():
            link.symlink_to(pair.image)
    names = camvid(root=options.camvid, split="val").label_space.names
    values = {**{index: index for index in range(len(names))}, len(names): 255}
    files = ", ".join(f"{name}: {folder / name}.txt" for name in parts)
    return parts["rest"], [
        "data=folder", f"data.root={options.camvid}", "data.image_dir='{split}'", "data.mask_dir='{split}annot'",
        f"data.classes=[{','.join(names)}]", f"data.file_values={json.dumps(values).replace(chr(34), '')}",
        f"data.splits_files={{{files}}}", f"data.autolabelled={{auto: {folder}/pool}}",
        f"data.min_confidence={options.min_confidence}",
    ]  # fmt: skip


def train(name: str, folder: Path, data: list[str], options: argparse.Namespace, seed: int) -> dict[str, object]:
    """Scores of a run, which is trained, or gone on with, unless it is finished."""
    run_dir = folder / name.replace(" ", "_")
    if not (run_dir / "scores_test.json").is_file():
        splits = "data.splits.train=[train,rest]" if name == "all labels" else "data.splits.train=[train]"
        length = [
            "trainer.max_epochs=-1",
            f"trainer.max_steps={options.steps}",
            "trainer.check_val_every_n_epoch=100000",
        ]
        own = [*data, *SIZE, *NET, WEIGHTS, splits, *RUNS[name], *length, f"seed={seed}", f"hydra.run.dir={run_dir}"]
        own += ["resume=auto", "inference.scales=[0.5]", "score=last", "callbacks.best=null", "trainer=cpu"]
        own += ["logger=none"]
        run("train", *own, log=folder / f"{run_dir.name}.log")
    return json.loads((run_dir / "scores_test.json").read_text())


def judge(rest: list[Pair], labels: Path, min_confidence: float) -> dict[str, float]:
    """Share of pixels that keep their auto-label, and how many of all and of those kept are right."""
    right = np.zeros(2, np.int64)
    count = np.zeros(2, np.int64)
    for pair in rest:
        truth, given = read_label(pair.label), read_label(labels / f"{pair.image.stem}.png")
        kept = read_label(labels / f"{pair.image.stem}_prob.png") >= 255 * min_confidence
        for index, chosen in enumerate((truth < 11, (truth < 11) & kept)):
            count[index] += chosen.sum()
            right[index] += (truth == given)[chosen].sum()
    return {"kept": count[1] / count[0], "right": right[0] / count[0], "right_of_kept": right[1] / max(1, count[1])}


def measure(options: argparse.Namespace, seed: int) -> dict[str, object]:
    """Everything of one seed."""
    print(f"seed {seed}", flush=True)
    folder = options.work / f"seed_{seed}"
    rest, data = divide(folder, options, seed)
    teacher = train("teacher", folder, data, options, seed)
    labels = folder / "pool/autoannot"
    if not (labels / "survival.csv").is_file():
        run(
            "autolabel", f"ckpt={folder}/teacher/checkpoints/last.ckpt", f"source={folder}/pool/auto", f"out={labels}",
            "inference=multiscale", "inference.scales=[0.375,0.5,0.625]", "device=cpu", log=folder / "autolabel.log",
        )  # fmt: skip
    student, everything = (train(name, folder, data, options, seed) for name in ("student", "all labels"))
    scores = {"teacher": teacher, "student": student, "all labels": everything}
    counts = {name: len((folder / f"{name}.txt").read_text().splitlines()) for name in ("train", "rest")}
    return {"seed": seed, "images": counts, "labels": judge(rest, labels, options.min_confidence), "scores": scores}


def mean_and_spread(values: list[float]) -> str:
    """In percent; the spread is the standard deviation over seeds, where there are several."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def section(results: list[dict], options: argparse.Namespace, facts: dict) -> str:
    """The part of docs/results.md."""
    true, auto = results[0]["images"]["train"], results[0]["images"]["rest"]
    images = {"teacher": f"{true} true", "student": f"{true} true, {auto} auto", "all labels": f"{true + auto} true"}
    rows = [HEADING, "", " ".join(__doc__.split("\n\n")[1].split()), ""]
    rows += [
        "| trained on | labels | mIoU, mean ± standard deviation | by seed | pixel accuracy |",
        "|---|---|---|---|---|",
    ]
    for name in RUNS:
        miou, accuracy = ([each["scores"][name][key] for each in results] for key in ("miou", "pixel_accuracy"))
        seeds = ", ".join(f"{100 * value:.1f}" for value in miou)
        rows.append(f"| {name} | {images[name]} | {mean_and_spread(miou)} | {seeds} | {mean_and_spread(accuracy)} |")
    gains = [each["scores"]["student"]["miou"] - each["scores"]["teacher"]["miou"] for each in results]
    quality = {key: mean_and_spread([each["labels"][key] for each in results]) for key in results[0]["labels"]}
    text = (
        f"Student over teacher, seed by seed: {mean_and_spread(gains)} points. At data.min_confidence="
        f"{options.min_confidence}, {quality['kept']} % of the pixels keep their auto-label;"
        f" {quality['right_of_kept']} % of these are right, and {quality['right']} % of all."
    )
    packages = ", ".join(f"{name} {facts['packages'][name]}" for name in ("torch", "pytorch-lightning", "numpy"))
    made = (
        f"`python scripts/autolabel_demo.py --camvid <folder> --seeds {len(results)} --steps {options.steps}"
        f" --min-confidence {options.min_confidence}`: 480x360 at half size, {options.steps} steps of 8 crops;"
        f" {os.cpu_count()} cores ({facts['device']}, {facts['threads']} threads); Python {facts['python']},"
        f" {packages}; {facts['time'][:10]}, after commit {facts['commit'][:7]}."
    )
    return "\n".join([*rows, "", text, "", made, ""])


def publish(text: str, page: Path) -> None:
    """Puts the section into the page, in place of the former one."""
    before, _, rest = page.read_text().partition(HEADING)
    after = rest[rest.index("\n## ") + 1 :] if "\n## " in rest else ""
    write_bytes(page, (before.rstrip() + "\n\n" + text + ("\n" + after if after else "")).encode())


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="CamVid folder (480x360, 11 classes)")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/autolabel_demo", help="where runs and results go")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results.md", help="where the table goes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=700, help="of each training")
    parser.add_argument("--min-confidence", type=float, default=0.5)
    options = parser.parse_args()
    options.camvid, options.work = options.camvid.resolve(), options.work.resolve()
    settings = {"camvid": str(options.camvid), "steps": options.steps, "min_confidence": options.min_confidence}
    note = options.work / "settings.json"
    if note.is_file() and json.loads(note.read_text()) != settings:
        sys.exit(
            f"error: {note} holds other settings than {settings}; give another folder as --work, or remove this one"
        )
    write_bytes(note, json.dumps(settings).encode())
    results = [measure(options, seed) for seed in range(options.seeds)]
    facts = environment()
    content = {"settings": settings, "environment": facts, "seeds": results}
    write_bytes(options.work / "results.json", (json.dumps(content, indent=1) + "\n").encode())
    text = section(results, options, facts)
    publish(text, options.page)
    print(text)


if __name__ == "__main__":
    main()
