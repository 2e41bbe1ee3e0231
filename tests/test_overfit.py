"""Four real images are learnt by heart: net, loss, optimiser and metric belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_four_real_images_are_learnt(run, camvid_mini: Path, tmp_path: Path) -> None:
    """All four images, uncropped, in one batch; the same four are then scored."""
    for folder in ("train", "trainannot"):
        (tmp_path / "four" / folder).mkdir(parents=True)
        for path in sorted((camvid_mini / folder).glob("*.png"))[::6]:
            (tmp_path / "four" / folder / path.name).symlink_to(path)
    done = run(
        "train",
        "data=camvid",
        f"data.root={tmp_path}/four",
        "data.splits={train: [train], val: [train], test: [train]}",
        "transforms=none",
        "transforms.crop_size=[180,240]",
        "data.batch_size=4",
        "data.num_workers=0",
        "trainer=cpu",
        "trainer.max_epochs=400",
        "trainer.check_val_every_n_epoch=100",
        "trainer.num_sanity_val_steps=0",
        "logger=none",
        "callbacks.charts=null",
        "hydra.run.dir=out",
        env={"OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/scores_test.json").read_text())["miou"] >= 0.95
