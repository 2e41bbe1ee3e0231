"""Four real images are learnt by heart: net, loss, optimiser and metric belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

# Poles are one or two pixels wide in images of 240x180, where logits come at an eighth: the images are shown
# four times as large, to a net of half the width without booster heads, to keep the time down.
IMAGES = ["0006R0_f02700.png", "0016E5_00960.png", "0016E5_05610.png", "0016E5_06990.png"]
SETTINGS = [
    "transforms=none", "transforms.scale=[4.0]", "transforms.crop_size=[720,960]", "inference.scales=[4.0]",
    "inference.multiple=1",
    "model.net.width_multiplier=0.5", "model.net.aux_channels=null", "model.aux_weights=null",
    "data.class_weights=[0.53,0.45,2.19,0.39,1.0,0.65,1.96,1.40,0.89,2.52,2.98]", "data.batch_size=4",
    "data.num_workers=0", "trainer=cpu", "trainer.max_epochs=400", "trainer.check_val_every_n_epoch=10",
    "trainer.num_sanity_val_steps=0", "logger=none", "callbacks.charts=null", "callbacks.panels=null",
    "+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/miou, mode: max,"
    " stopping_threshold: 0.95, patience: 100}",
]  # fmt: skip


@pytest.mark.slow
def test_four_real_images_are_learnt(run, camvid_mini: Path, tmp_path: Path) -> None:
    """All four images, whole, in one batch; the same four are then scored at their own size."""
    for folder in ("train", "trainannot"):
        (tmp_path / "four" / folder).mkdir(parents=True)
        for name in IMAGES:
            (tmp_path / "four" / folder / name).symlink_to(camvid_mini / folder / name)
    where = ["data=camvid", f"data.root={tmp_path}/four", "data.splits={train: train, val: train, test: train}"]
    done = run("train", *where, *SETTINGS, "hydra.run.dir=out", env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/scores_test.json").read_text())["miou"] >= 0.95
