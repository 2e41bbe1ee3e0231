"""Main memory that runs out in a command ends it in one line that says so and what to lower."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT, SMALL, save_untrained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux"),
]

BOUNDED = """
import resource, runpy, sys
from pathlib import Path
import src, cv2, hydra, pytorch_lightning, torch, torchmetrics, albumentations
command, megabytes = sys.argv[1:3]
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (int(megabytes) << 20), resource.RLIM_INFINITY))
sys.argv[:3] = [command]
runpy.run_module(f"src.{command}", run_name="__main__", alter_sys=True)
"""


def bounded(folder: Path, megabytes: int, command: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that may use so much more memory than its libraries do."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return subprocess.run(
        [sys.executable, "-c", BOUNDED, command, str(megabytes), *overrides],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def check(ended: subprocess.CompletedProcess[str]) -> str:
    """The line that it ended with."""
    text = ended.stdout + ended.stderr
    assert ended.returncode == 1, text
    assert "Traceback" not in text
    assert "corrupt" not in text and "remove it" not in text
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    assert lines[0].startswith("error: main memory is full: ")
    for remedy in ("data.batch_size", "data.num_workers", "transforms.crop_size", "inference/window", "huge.pixels"):
        assert remedy in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("megabytes", "said"), [(120, "large.png: there is no room"), (700, "MB could not be allocated")]
)
def test_predict(tmp_path: Path, megabytes: int, said: str) -> None:
    ckpt = save_untrained(tmp_path / "net.ckpt", *SMALL)
    Image.new("RGB", (7000, 7000)).save(tmp_path / "large.png")
    ended = bounded(tmp_path, megabytes, "predict", f"ckpt={ckpt}", "source=large.png", "out=out", "device=cpu")
    assert said in check(ended)
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("workers", [0, 1])
def test_train_with_too_large_crops(tmp_path: Path, workers: int) -> None:
    ended = bounded(
        tmp_path,
        600,
        "train",
        "data.length={train: 2, val: 2, test: 2}",
        "model=fcn_torchvision",
        "model.net.backbone.name=test_resnet",
        "data.batch_size=2",
        f"data.num_workers={workers}",
        "transforms.crop_size=[9000,9000]",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "logger=none",
        "preflight=false",
        "hydra.run.dir=run",
    )
    check(ended)
