"""Installs the wheel in an empty environment, outside the clone, and uses it there as a user would.

``python scripts/check_install.py`` downloads what the wheel depends on, a few GB where torch comes with CUDA;
``--borrow`` takes the libraries of the environment that runs it instead. ``--extra smp`` adds an extra.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEEL_MB, IMPORT_S, HELP_S = 2.0, 0.3, 1.0
TINY = [
    "model=fcn_torchvision",
    "model.net.backbone.name=test_resnet",
    "data.batch_size=2",
    "transforms.crop_size=[64,64]",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_steps=1",
    "logger=none",
    "callbacks.panels=null",
]
STREETS = ["data.length={train: 2, val: 2, test: 2}", "data.size=[64,128]"]
# How each net is trained and applied; {data} is a folder of two classes.
NETS: dict[str, tuple[list[str], list[str]]] = {
    "single": (STREETS, []),
    "windows": (STREETS, ["inference/window=sliding", "inference.window.size=[64,64]"]),
    "hierarchical": ([*STREETS, "model/scales=hierarchical"], []),
    "binary": (["experiment=binary", "data.root={data}"], []),
}
PAIRS = """
import sys, cv2, numpy as np
from pathlib import Path
random, root = np.random.default_rng(0), Path(sys.argv[1])
for split, count in (("train", 4), ("val", 2)):
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(root / f"images/{split}/{index}.png"), random.integers(0, 256, (64, 128, 3), np.uint8))
        cv2.imwrite(str(root / f"masks/{split}/{index}.png"), 255 * random.integers(0, 2, (64, 128), np.uint8))
"""
SAME = """
import sys, cv2, numpy as np, semseg
written = cv2.imread(sys.argv[3], cv2.IMREAD_UNCHANGED)
found = semseg.load(sys.argv[1], *sys.argv[4:], device="cpu").predict(sys.argv[2]).label
assert np.array_equal(found, written), "semseg.load gives other labels than semseg predict"
"""


def main() -> None:
    """Prints what is checked, and ends with the first failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--borrow", action="store_true", help="use the libraries of this environment")
    parser.add_argument("--extra", action="append", default=[], help="an extra to install with it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder).resolve()
        os.environ["SEMSEG_CACHE"] = str(place / "cache")
        with step("wheel"):
            wheel = build(place / "dist", isolated=not given.borrow)
        with step("install"):
            python = install(wheel, place / "environment", borrow=given.borrow, extras=given.extra)
        work = place / "work"
        work.mkdir()
        check_start(python, work)
        with step("train, doctor"):
            train_as_it_comes(python, work)
        run([python, "-c", PAIRS, "data"], work)
        for name in NETS:
            with step(f"labels: {name}"):
                same_labels(name, python, work)
    print("1 passed, 0 failed")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Prints the name, and the seconds it took."""
    print(f"{name} ...", end=" ", flush=True)
    start = time.monotonic()
    yield
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def build(folder: Path, *, isolated: bool) -> Path:
    """The wheel, which must be small."""
    how = [] if isolated else ["--no-build-isolation"]
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *how, "-w", folder, ROOT], ROOT)
    wheel = next(folder.glob("semseg-*.whl"))
    size = wheel.stat().st_size / 1e6
    if size >= WHEEL_MB:
        sys.exit(f"error: {wheel.name} has {size:.2f} MB; it must have less than {WHEEL_MB}")
    print(f"{size:.2f} MB,", end=" ")
    return wheel


def install(wheel: Path, environment: Path, *, borrow: bool, extras: list[str]) -> Path:
    """Python of a new environment with the wheel in it; a file of paths there lends it this one's libraries."""
    run([sys.executable, "-m", "venv", environment], ROOT)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if borrow:
        site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], ROOT).strip()
        lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (Path(site) / "borrowed.pth").write_text("\n".join(sorted(lent)) + "\n", encoding="utf-8")
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    run([python, "-m", "pip", "install", "-q", *(["--no-deps"] if borrow else []), wanted], ROOT)
    if not borrow:
        run([python, "-m", "pip", "check"], ROOT)
    return python


def check_start(python: Path, work: Path) -> None:
    """``--help`` and the import answer at once, the best of three times."""
    for what, words, limit in (
        ("semseg --help", [command(python), "--help"], HELP_S),
        ("import semseg", [python, "-c", "import semseg"], IMPORT_S + seconds([python, "-c", ""], work)),
    ):
        best = seconds(words, work)
        print(f"{what}: {best:.2f} s")
        if best > limit:
            sys.exit(f"error: {what} takes {best:.2f} s; it must take less than {limit:.2f}")


def seconds(words: list[str | Path], work: Path) -> float:
    """The shortest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(words, work)
        times.append(time.perf_counter() - start)
    return min(times)


def train_as_it_comes(python: Path, work: Path) -> None:
    """Three steps with all defaults but the number of images, and a look at what is installed."""
    few = "data.length={train: 16, val: 2, test: 2}"
    run([command(python), "train", "trainer.max_steps=3", few, "hydra.run.dir=first"], work)
    run([command(python), "doctor", "data=toy_streets"], work)


def same_labels(name: str, python: Path, work: Path) -> None:
    """Trains the net there; ``semseg predict``, the clone's, and ``semseg.load`` of run and bundle must agree."""
    trained, applied = NETS[name]
    net, image = work / name, work / "data/images/val/0.png"
    run(
        [
            command(python),
            "train",
            *TINY,
            *(word.format(data=work / "data") if "{data}" in word else word for word in trained),
            f"hydra.run.dir={net}",
        ],
        work,
    )
    where = [f"ckpt={net}", f"source={image}", "save=[index]", "device=cpu", *applied]
    run([command(python), "predict", *where, f"out={net}/there"], work)
    run([python, "-m", "src.predict", *where, f"out={net}/here"], ROOT)
    there, here = (next((net / out / "index").glob("*.png")) for out in ("there", "here"))
    if there.read_bytes() != here.read_bytes():
        sys.exit(f"error: {name}: semseg predict and python -m src.predict write other labels")
    bundle = work / f"{name}.semseg.zip"
    run([command(python), "export", f"ckpt={net}", "format=bundle", f"out={bundle}"], work)
    for ckpt in (net, bundle):
        run([python, "-c", SAME, ckpt, image, there, *applied], work)


def command(python: Path) -> Path:
    """The installed ``semseg``."""
    return python.with_name("semseg.exe" if os.name == "nt" else "semseg")


def run(words: list[str | Path], folder: Path) -> str:
    """What it prints; ends this script where it fails."""
    done = subprocess.run(
        [*map(str, words)],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=3600,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, words))[:300]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
