"""Stands for ``src.train`` in tests of the driver: a few steps, a checkpoint after each, scores at the end.

``value=`` is its score, ``fail=true`` ends it after a step, ``fail=killed`` kills its last process, ``pause=`` is the
time of a step, and the first argument says how many processes it is, or ``torchrun`` does; as names of options that
``src.train`` has, too. Files ``rank<N>`` and lines of ``steps`` tell what ran.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STEPS = 4
NAMES = {"optimizer.lr": "value", "data.name": "fail", "schedule.power": "pause"}


def main(ranks: str, *overrides: str) -> None:
    options = {NAMES.get(name, name): value for name, value in (item.split("=", 1) for item in overrides)}
    if folder := options.pop("resume", None):
        folder = Path(folder)
        options, first = json.loads((folder / "checkpoints/last.ckpt").read_text())
    else:
        folder, first = Path(options.pop("hydra.run.dir").strip("'")), 0
    rank = int(os.environ.get("RANK", os.environ.get("STUB_RANK", 0)))
    (folder / f"rank{rank}").touch()
    if rank:
        if options.get("fail") == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return
    if options.get("fail") == "killed":
        time.sleep(60)  # until torchrun ends it
    others = [
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "STUB_RANK": str(rank)})
        for rank in range(1, 1 if "RANK" in os.environ else int(ranks))
    ]
    (folder / "checkpoints").mkdir(exist_ok=True)
    value = float(options.get("value", 0.5))
    for step in range(first, STEPS):
        with (folder / "steps").open("a") as file:
            file.write(f"{step}\n")
        time.sleep(float(options.get("pause", 0)))
        if options.get("fail") in ("true", "fails") and step == 1:
            sys.exit("error: made to fail")
        with (folder / "metrics.csv").open("a") as file:
            file.write("" if step else "step,val/miou\n")
            file.write(f"{step},{value * (step + 1) / STEPS}\n")
        partial = folder / "checkpoints/partial"
        partial.write_text(json.dumps([options, step + 1]))
        partial.replace(folder / "checkpoints/last.ckpt")
    for other in others:
        other.wait()
    stamp = {"data": "stub", "splits": ["val"], "images": 3}
    scores = {"miou": value + 0.01 * int(options["seed"]), "protocol": stamp}
    (folder / "partial").write_text(json.dumps(scores))
    (folder / "partial").replace(folder / "scores_test.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
