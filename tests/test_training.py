"""Options of a training run, each through a whole run of one step."""

from __future__ import annotations

import csv
import errno
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.build import from_config
from src.build.init_from import init_from
from src.commands.train import train
from src.errors import UserError
from tests.conftest import ROOT
from tests.reference_fill import fill, load_keys

SMALL = ["data.length={train: 4, val: 2, test: 2}", "data.size=[32,64]", "data.eval_batch_size=2", "debug=one_batch"]
PLAIN = ["transforms.crop_size=[32,64]", "callbacks.panels=null", "callbacks.charts=null", "preflight=false"]
TINY = ["model=fcn_torchvision", "model.net.backbone.name=test_resnet", "model.net.channels=[16]",
        "model.net.aux_channels=16"]  # fmt: skip
NARROW = ["model.net.width_multiplier=0.25"]  # the default net


@pytest.fixture(autouse=True)
def _composer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("src.reports.console.draw_scores", lambda *_: None)  # takes longer than all the rest
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def _config(folder: Path, *overrides: str, net: list[str] = TINY) -> DictConfig:
    return compose("train", overrides=[*SMALL, *PLAIN, *net, *overrides, f"run_dir={folder}"])


# What can go together goes through one run; what a later option would hide does not.
LOSS = ["loss=ohem", "trainer.precision=bf16-mixed", "channels_last=false"]
SMOOTHED = ["loss.class_weights=[1,1,1,1,1,1,1,1,1,1,1]", "loss.label_smoothing=0.1"]
STEPS = ["optimizer=sgd", "schedule=poly", "schedule.every=epoch", "optimizer.lr_multipliers={head: 10}"]
AVERAGED = ["ema=0.9", "trainer.gradient_clip_val=1.0", "inference=multiscale"]
FROZEN = ["norms.freeze=all", "norms.momentum=0.01", "norms.eps=1e-3", "ema=0.9"]
STREET = ["transforms=street", "transforms.blur=1.0", "transforms.hue=0.2", "transforms.max_class_share=0.75"]
OWN = ["+transforms.extra=[{_target_: albumentations.VerticalFlip, p: 1.0}]"]
RESIZED = ["transforms.output_size=[32,32]", "transforms.rand_augment=[2,10]", "data.eval_long_edge=80"]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([*TINY, *LOSS, *STREET], id="loss, precision and street"),
        pytest.param([*TINY, *SMOOTHED, *STEPS, *OWN], id="weights, schedule and own transform"),
        pytest.param([*TINY, *FROZEN, *RESIZED], id="frozen norms and resized images"),
        pytest.param([*NARROW, "model.net.fusion=semantic", *AVERAGED], id="averages, scales and fusion"),
        pytest.param(["compile=true"], id="compiled", marks=pytest.mark.slow),
    ],
)
def test_each_option_trains_validates_saves_and_tests(tmp_path: Path, overrides: list[str]) -> None:
    assert 0 <= train(_config(tmp_path, *overrides, net=[])) <= 1
    state = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert state
    assert not any("_orig_mod" in name for name in state)
    assert (tmp_path / "scores_test.json").is_file()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(_config(tmp_path / name, f"seed={seed}"))
    a, b, c = (torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a if name.endswith("conv1.weight"))


def test_the_rate_is_for_the_reference_batch_and_falls_by_epoch(tmp_path: Path) -> None:
    """Eight images in batches of two, two of which make a step: four images a step, two steps an epoch."""
    given = ["data.length={train: 8, val: 2, test: 2}", "trainer.accumulate_grad_batches=2", "optimizer=sgd"]
    given += [
        "trainer.limit_train_batches=1.0",
        "trainer.max_epochs=2",
        "optimizer.lr=0.1",
        "optimizer.reference_batch=16",
    ]
    train(_config(tmp_path, *given, "schedule=poly", "schedule.power=1.0", "schedule.every=epoch"))
    with (tmp_path / "metrics.csv").open() as file:
        rates = [float(row["lr/net"]) for row in csv.DictReader(file) if not row["val/miou"]]
    assert rates == pytest.approx([0.025, 0.025, 0.0125, 0.0125])


class _Enough(Exception):
    """Ends a run before its first step."""


@pytest.mark.parametrize(
    ("overrides", "told"), [([], True), (["norms.freeze=all"], False), (["model.net.image_pooling=null"], False)]
)
def test_a_batch_too_small_for_image_pooling_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    told: bool,
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise _Enough

    monkeypatch.setattr("pytorch_lightning.Trainer.fit", fit)
    net = ["model=deeplab_v3", "model.net.backbone.name=test_resnet", "model.net.backbone.multi_grid=null"]
    with warnings.catch_warnings(), pytest.raises(_Enough):
        warnings.simplefilter("ignore")  # of small crops and untrained norms
        train(_config(tmp_path, *overrides, net=[*net, "model.net.aspp_channels=16"]))
    assert ("batch norm sees 2 images" in capsys.readouterr().out) == told


def test_an_argument_that_a_transform_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mask_value.*PadIfNeeded"):
        train(_config(tmp_path, "+transforms.extra=[{_target_: albumentations.PadIfNeeded, mask_value: 255}]"))


def test_without_a_test_split_the_run_ends_with_val(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(_config(tmp_path, "data.splits.test=[]"))
    assert (tmp_path / "scores_val.json").is_file()
    assert "the test split cannot be scored" in capsys.readouterr().out


def test_a_run_without_validation_ends_well(tmp_path: Path) -> None:
    train(_config(tmp_path, "trainer.limit_val_batches=0", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=5"))
    assert (tmp_path / "scores_test.json").is_file()


@pytest.mark.parametrize("model", ["bisenetv2_coincheung", "bisenetv2_mmseg"])
def test_weights_of_other_projects_load_under_their_own_names(tmp_path: Path, model: str) -> None:
    """The last layer differs in its number of classes; everything else is taken."""
    keys = {"bisenetv2_coincheung": "bisenetv2_coincheung", "bisenetv2_mmseg": "mmseg_bisenetv2"}[model]
    state = load_keys(ROOT / f"tests/golden/keys/{keys}.json")
    fill(state)
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    cfg = _config(tmp_path, net=[f"model={model}"])
    module = from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)
    said = init_from(module, tmp_path / "theirs.pth")
    assert "misshaped 10" in said
    assert "missing" not in said
    assert "unexpected" not in said


def test_scores_are_there_before_anything_is_drawn_and_outlive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is full once the scores are written: of pictures, charts and page, one line each, status 0."""
    there = []

    def full(path: Path, *_: Any) -> None:
        there.append([(tmp_path / name).is_file() for name in ("scores_test.json", "per_image_test.csv")])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("src.callbacks.worst_images.pictures.save_png", full)
    monkeypatch.setattr("src.reports.console.draw_scores", full)
    monkeypatch.setattr("src.reports.page.write_page", full)
    assert 0 <= train(_config(tmp_path, "callbacks.page=null")) <= 1
    printed = capsys.readouterr().out
    assert there == [[True, True]] * 3
    for what in ("worst_images", "charts_test", "report.html"):
        (line,) = [line for line in printed.splitlines() if f"{tmp_path / what}: not written (" in line]
        assert "No space left on device" in line
        assert printed.index("mean IoU") < printed.index(line), "the table comes first"


def test_a_run_that_is_over_scores_the_same_weights_when_it_is_resumed(tmp_path: Path) -> None:
    """Stopped in its test, it trains no further, and averaged weights have to come from its checkpoint."""
    own = ["ema=0.5", "score=last", "callbacks.last.every_n_epochs=5", "trainer.max_epochs=2"]
    train(_config(tmp_path, *own))
    first = json.loads((tmp_path / "scores_test.json").read_text())
    (tmp_path / "scores_test.json").unlink()
    train(_config(tmp_path, *own, f"ckpt_path={tmp_path}/checkpoints/last.ckpt"))
    again = json.loads((tmp_path / "scores_test.json").read_text())
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 1
    assert (again["confusion_matrix"], again["reliability"]) == (first["confusion_matrix"], first["reliability"])
    assert again["protocol"]["checkpoint"] == first["protocol"]["checkpoint"]
    assert (tmp_path / "config_resumed.yaml").is_file()


def test_a_run_in_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("old")
    with pytest.raises(UserError, match="holds a run already"):
        train(_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
