"""Every mistake of a user ends in one line that names the file or option, the value and the remedy."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.build.validate import check_launch
from src.checkpoints.io import AtomicCheckpointIO
from src.errors import UserError
from tests.conftest import NET, call

TINY = ["data.length={train: 8, val: 2, test: 2}", "data.size=[32,64]", "data.eval_batch_size=2"]
SHORT = ["data.batch_size=2", "data.num_workers=0", "trainer=cpu", "logger=none", "trainer.max_epochs=2"]
QUICK = [
    "transforms.crop_size=[32,64]", "model.net.width_multiplier=0.25", "model.net.head_channels=16", "worst_images=0",
    "callbacks.panels=null", "callbacks.charts=null", "callbacks.page=null",
]  # fmt: skip
FOLDER = ["data=folder", "data.classes=[a,b]", "data.fractions={train: 0.5, val: 0.5}", "transforms.crop_size=[32,32]"]

Fails = Callable[..., str]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fails:
    """Runs ``src.train`` with overrides, asserts that it ends with status 1 in one line, and returns that line."""

    def run(*overrides: str) -> str:
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        monkeypatch.chdir(work)
        with pytest.raises(SystemExit) as ending:
            call("train", *overrides)
        assert ending.value.code == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
        assert not any("Traceback" in line for line in lines)
        return lines[-1]

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of eight good pairs of two classes."""
    root = tmp_path / "mine"
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(8):
        cv2.imwrite(str(root / f"images/{index}.png"), generator.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        cv2.imwrite(str(root / f"masks/{index}.png"), generator.integers(0, 2, (40, 48), dtype=np.uint8))
    return root


def _mask(root: Path, array: np.ndarray, name: str = "3") -> None:
    cv2.imwrite(str(root / f"masks/{name}.png"), array)


def test_missing_root(fails: Fails) -> None:
    line = fails("data=cityscapes", "data.root=/nowhere")
    assert "/nowhere" in line
    assert "cityscapes-dataset.com" in line
    assert "data.root" in line


def test_image_without_mask(fails: Fails, data: Path) -> None:
    (data / "masks/3.png").unlink()
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "3.png" in line
    assert "mask" in line


def test_mask_of_another_size(fails: Fails, data: Path) -> None:
    _mask(data, np.zeros((40, 40), np.uint8))
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "3.png" in line
    assert "40x40" in line
    assert "48x40" in line


def test_label_value_outside_the_map(fails: Fails, data: Path) -> None:
    _mask(data, np.full((40, 48), 7, np.uint8))
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "3.png" in line
    assert "7" in line
    assert "file_values" in line


def test_label_value_outside_the_map_found_in_training(fails: Fails, data: Path) -> None:
    _mask(data, np.full((40, 48), 7, np.uint8))
    line = fails(*FOLDER, *SHORT, f"data.root={data}", "preflight=false", "data.num_workers=1")
    assert "3.png" in line
    assert "label value 7" in line


def test_binary_mask_of_0_and_255(fails: Fails, data: Path) -> None:
    for index in range(8):
        array = np.zeros((40, 48), np.uint8)
        array[10:20] = 255
        _mask(data, array, str(index))
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "255" in line
    assert "file_values={0:0,255:1}" in line


def test_labels_that_count_from_one(fails: Fails, data: Path) -> None:
    for index in range(8):
        _mask(data, np.array([[1, 2]] * 20, np.uint8).repeat(2, 0).repeat(24, 1), str(index))
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "0 never does" in line
    assert "'data.file_values={1:0,2:1}'" in line


def test_labels_of_16_bits(fails: Fails, data: Path) -> None:
    _mask(data, np.full((40, 48), 26001, np.uint16))
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "3.png" in line
    assert "26001" in line
    assert "data.root" in line


def test_labels_that_are_ignored_altogether(fails: Fails, data: Path) -> None:
    line = fails(*FOLDER, *SHORT, f"data.root={data}", "data.file_values={0:255,1:255}")
    assert "every pixel" in line
    assert "data.file_values" in line


def test_images_of_several_sizes_in_one_scored_batch(fails: Fails, data: Path) -> None:
    for kind in ("images", "masks"):
        path = data / f"{kind}/3.png"
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:32])
    line = fails(
        *FOLDER, *SHORT, f"data.root={data}", "data.splits={train: [train], val: [train]}", "data.eval_batch_size=2"
    )
    assert "48x40" in line
    assert "48x32" in line
    assert "data.eval_batch_size=1" in line


def test_three_channel_mask(fails: Fails, data: Path) -> None:
    _mask(data, np.zeros((40, 48, 3), np.uint8))
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "3.png" in line
    assert "channel" in line
    assert "data.encoding=color" in line


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken"], ids=["zero bytes", "corrupt"])
def test_broken_image(fails: Fails, data: Path, content: bytes) -> None:
    (data / "images/3.png").write_bytes(content)
    line = fails(*FOLDER, *SHORT, f"data.root={data}")
    assert "3.png" in line
    assert "remove" in line or "restore" in line


def test_class_count_that_is_not_the_label_spaces(fails: Fails) -> None:
    line = fails(*TINY, *SHORT, "data.num_classes=19")
    assert "data.num_classes=19" in line
    assert "11 classes" in line


def test_crop_larger_than_the_image_without_padding(fails: Fails) -> None:
    line = fails(*TINY, *SHORT, "transforms.crop_size=[64,64]", "transforms.scale=[1.0]", "transforms.pad=false")
    assert "crops need up to 64x64 pixels" in line
    assert "transforms.crop_size" in line
    assert "64x32" in line
    assert "transforms.pad=true" in line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modle=bisenetv2", ["modle", "Did you mean 'model'?"]),
        ("model=bisenet2", ["bisenet2", "Did you mean 'bisenetv2'?"]),
        ("optimizer.learning_rate=1", ["optimizer.learning_rate", "Did you mean 'optimizer.lr'?"]),
        ("trainer.max_epoch=3", ["Did you mean 'trainer.max_epochs'?"]),
        ("transforms.scale=[1", ["cannot be read", "quotes"]),
        ("resume=last", ["runs/train", "resume=<folder>"]),
        ("init_from=gone.ckpt", ["init_from=gone.ckpt", "not found"]),
        ("init_from=runs/fcn16s_voc", ["experiment=fcn16s_voc hydra.run.dir=runs/fcn16s_voc", "init_from=null"]),
        ("sampler.extra=[train]", ["sampler.extra", "data.splits.train", "remove"]),
        ("model.net.fusion=bag", ["fusion", "bag", "bga"]),
        ("trainer.precision=8-bit", ["8-bit"]),
        ("model.aux_weights.aux_s9=1", ["aux_s9"]),
        ("data.batch_size=-1", ["data.batch_size=-1", "1 or more"]),
        ("data.num_workers=-1", ["data.num_workers=-1", "auto"]),
        ("data.mean=[123,116,103]", ["data.mean=[123, 116, 103]", "255"]),
        ("data.length=100", ["data.length=100"]),
        ("transforms.crop_size=[32]", ["transforms.crop_size=[32]", "[height, width]"]),
        ("transforms.crop_size=[32.5,64]", ["transforms.crop_size=[32.5, 64]", "[height, width]"]),
        ("transforms.crop_size=[a,b]", ["transforms.crop_size=", "[height, width]"]),
        ("transforms.crop_size=null", ["transforms.crop_size=null", "[height, width]"]),
        ("+data.root=null", ["data.root=null", "path"]),
        ("data.splits.train=trian", ["trian"]),
        ("optimizer.lr=fast", ["optimizer.lr=fast", "number"]),
        ("schedule.power=high", ["schedule.power=high", "number"]),
        ("schedule.warmup_steps=-5", ["schedule.warmup_steps=-5", "0 or more"]),
        ("norms.eps=small", ["norms.eps=small", "number"]),
        ("data.splits.train=null", ["data.splits.train=[train]"]),
        ("data.class_weights=2", ["class_weights=2", "one per class"]),
        ("transforms.extra=[{_target_: albumentations.Rotat}]", ["albumentations.Rotat", "_target_"]),
        ("model.aux_weights.aux_s2=much", ["model.aux_weights.aux_s2=much"]),
        ("model=null", ["null", "--help"]),
        ("loss.label_smoothing=2", ["loss.label_smoothing=2"]),
        ("trainer.accumulate_grad_batches=0", ["trainer.accumulate_grad_batches=0"]),
        ("trainer.max_epochs=-1", ["trainer.max_steps"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs=0", "1 or more"]),
        ("schedule.power=-0.9", ["schedule.power=-0.9", "0 or more"]),
        ("optimizer.reference_batch=0", ["optimizer.reference_batch=0", "null"]),
        ("optimizer.lr_multipliers={haed: 10}", ["'haed'", "Did you mean 'head'?"]),
        ("norms.freeze=affine", ["norms.freeze=affine", "statistics or all, or null"]),
        ("norms.momentum=0", ["norms.momentum=0", "null"]),
        ("transforms.aspect=1.1", ["transforms.aspect=1.1", "[low, high]"]),
        ("data.eval_long_edge=0", ["data.eval_long_edge=0", "null"]),
        ("ema=true", ["ema=true", "0.999"]),
        ("callbacks.non_finite.action=go", ["callbacks.non_finite.action=go", "stop or skip"]),
        ("trainer.accelerator=gpu", ["trainer"]),
        ("callbacks.history=null", ["callbacks.charts=null"]),
        ("data.batch_size=100", ["data.batch_size=100", "8 images"]),
    ],
)
def test_impossible_options(fails: Fails, override: str, words: list[str]) -> None:
    line = fails(*TINY, *SHORT, "transforms.crop_size=[32,64]", override)
    for word in words:
        assert word in line


def test_class_weights_that_the_loss_would_not_use(fails: Fails) -> None:
    line = fails(*TINY, *SHORT, "loss=image_weighted_ce", "data.class_weights=median_frequency")
    assert "data.class_weights=median_frequency has no effect" in line
    assert "loss=cross_entropy" in line


def test_a_loss_that_is_not_finite_stops_and_names_step_and_checkpoint(fails: Fails) -> None:
    line = fails(*TINY, *SHORT, *QUICK, "optimizer.lr=1e30", "trainer.log_every_n_steps=1")
    assert "not finite at step" in line
    assert re.search(r"images train_\d+, train_\d+\)", line)
    assert "last good checkpoint" in line
    assert "optimizer.lr" in line
    assert "callbacks.non_finite.action=skip" in line
    kept = Path(re.search(r"the batch is in (\S+);", line)[1])
    assert sorted(path.name for path in kept.iterdir()) == ["batch.pt", "names.txt", "overlay.png"]
    assert ", ".join((kept / "names.txt").read_text().split()) in line


def test_steps_are_not_skipped_for_ever(fails: Fails, tmp_path: Path) -> None:
    skip = ["callbacks.non_finite.action=skip", "callbacks.non_finite.most=2", f"hydra.run.dir={tmp_path / 'out'}"]
    line = fails(*TINY, *SHORT, *QUICK, *skip, "optimizer.lr=1e30")
    assert "after 2 skipped steps in a row the loss is not finite at step 3" in line
    assert len(list((tmp_path / "out/non_finite").iterdir())) == 3


def test_one_image_of_one_cell_cannot_be_normed(fails: Fails) -> None:
    net = [*NET, "model.net.backbone.output_stride=32"]
    line = fails(*TINY, *SHORT, *net, "transforms.crop_size=[32,32]", "data.batch_size=1")
    assert "one value per channel" in line
    assert "data.batch_size" in line
    assert "transforms.crop_size" in line


@pytest.mark.parametrize(
    ("looked_at", "words"),
    [("true", "none of 4 samples looked at has a label; name a labelled split in data.splits"),
     ("false", "has no label to score against; evaluate a labelled split")],
)  # fmt: skip
def test_a_split_without_labels_cannot_be_scored(fails: Fails, data: Path, looked_at: str, words: str) -> None:
    for kind, split, names in (
        ("images", "train", range(4)),
        ("images", "test", range(4, 8)),
        ("masks", "train", range(4)),
    ):
        (data / kind / split).mkdir()
        for name in names:
            (data / f"{kind}/{name}.png").rename(data / f"{kind}/{split}/{name}.png")
    line = fails(
        *FOLDER, *SHORT, f"data.root={data}", "data.splits={train: [train], val: [test]}", f"preflight={looked_at}"
    )
    assert words in line


def test_a_full_disk_leaves_the_old_checkpoint_intact(
    fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = torch.save, []

    def full_on_third(content: object, file: object) -> None:
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full_on_third)
    out = tmp_path / "out"
    line = fails(*TINY, *SHORT, *QUICK, f"hydra.run.dir={out}")
    assert "No space left on device" in line
    assert ".ckpt" in line
    assert "intact" in line
    assert "resume=last" in line
    files = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert files == ["best.ckpt", "last.ckpt"]
    for name in files:
        assert torch.load(out / "checkpoints" / name, weights_only=True)["state_dict"]


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(UserError, match=r"x\.ckpt.*Input/output error.*intact"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(2)}, path)
    assert torch.load(path, weights_only=True)["a"].tolist() == [1, 1]
    assert [item.name for item in tmp_path.iterdir()] == ["x.ckpt"]


def test_why_a_checkpoint_cannot_be_written_is_what_the_system_says(tmp_path: Path) -> None:
    """Torch itself meets the end of the room here, and has a message of its own."""
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "x.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"x\.ckpt: checkpoint cannot be written \(.*File too large; .*intact"):
            AtomicCheckpointIO().save_checkpoint({"a": torch.ones(100_000), "b": torch.ones(9)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path, weights_only=True)["a"].tolist() == [1, 1]
    assert [item.name for item in tmp_path.iterdir()] == ["x.ckpt"]


def test_a_folder_that_cannot_be_synced_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["a"].tolist() == [1, 1]


def test_a_run_is_continued_only_with_its_own_net_and_groups(
    fails: Fails, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("train", *TINY, *SHORT, *QUICK, f"hydra.run.dir={tmp_path}/a", "trainer.max_epochs=1")
    capsys.readouterr()
    last = tmp_path / "a/checkpoints/last.ckpt"
    line = fails(*TINY, *SHORT, *QUICK, f"ckpt_path={last}", "model.net.head_channels=32")
    assert "does not fit the net" in line
    assert "init_from" in line
    line = fails(f"resume={tmp_path}/a", "logger=none")
    assert "logger=none" in line
    assert "single values" in line
    torch.save({"weight": torch.ones(1)}, tmp_path / "plain.ckpt")
    line = fails(*TINY, *SHORT, *QUICK, f"ckpt_path={tmp_path}/plain.ckpt")
    assert "plain.ckpt" in line
    assert "init_from" in line


def test_a_truncated_jpeg_is_not_filled_up_with_grey(fails: Fails, data: Path) -> None:
    image = cv2.imread(str(data / "images/3.png"))
    (data / "images/3.png").unlink()
    (data / "images/3.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes()[:-200])
    line = fails(*FOLDER, *SHORT, f"data.root={data}", "preflight=false")
    assert "3.jpg" in line
    assert "truncated" in line


def test_a_checkpoint_with_objects_beside_weights_is_not_loaded(fails: Fails, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "object": Path("x")}, tmp_path / "bad.ckpt")
    line = fails(*TINY, *SHORT, f"init_from={tmp_path}/bad.ckpt", "transforms.crop_size=[32,64]")
    assert "bad.ckpt" in line
    assert "not loaded" in line


@pytest.mark.parametrize(("folder", "stays"), [(".", True), ("run", False)])
def test_a_run_that_leaves_nothing_leaves_no_folder_but_the_one_it_is_called_in(
    fails: Fails, tmp_path: Path, folder: str, stays: bool
) -> None:
    assert "data.root" in fails(*FOLDER, f"data.root={tmp_path / 'nowhere'}", f"hydra.run.dir={folder}")
    assert (tmp_path / "work" / folder).is_dir() == stays


def test_restarts_by_torchrun_need_a_store_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's shared one holds the addresses of processes that are gone."""
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    check_launch(OmegaConf.create())
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(UserError, match=r"--max-restarts=3 needs `export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`"):
        check_launch(OmegaConf.create())
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    check_launch(OmegaConf.create())
