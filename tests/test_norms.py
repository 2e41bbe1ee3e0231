"""Batch norms that keep their statistics through a whole fit, whatever they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from src.build.from_checkpoint import load_module
from src.build.from_config import build_net
from src.commands.train import train
from src.errors import UserError
from src.training.batch_norm import FreezeNorms, SyncBatchNorms, batch_norms, set_norms
from tests.conftest import ROOT

SMALL = ["debug=one_batch", "data.length={train: 8, val: 2, test: 2}", "data.size=[32,64]", "data.eval_batch_size=2"]
QUICK = ["transforms.crop_size=[32,64]", "callbacks.panels=null", "callbacks.charts=null", "preflight=false"]
TRUNK = ["model=fcn_torchvision", "model.net.backbone.name=test_resnet", "model.aux_weights=null"]
EPOCHS = ["model.net.aux_channels=null", "trainer.max_epochs=2", "trainer.limit_train_batches=2"]


@pytest.fixture(autouse=True)
def _composer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("src.reports.console.draw_scores", lambda *_: None)  # takes longer than all the rest
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def _config(folder: Path, *overrides: str) -> DictConfig:
    return compose("train", overrides=[*SMALL, *QUICK, *TRUNK, *EPOCHS, *overrides, f"run_dir={folder}"])


def _shaped(cfg: DictConfig, path: Path) -> dict[str, torch.Tensor]:
    """Weights and statistics of a net that has seen images, saved as a file to start from."""
    net = build_net(cfg)
    for norm in batch_norms(net):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1)
    torch.save(net.state_dict(), path)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize(
    ("freeze", "kept"),
    [
        ("statistics", ("running",)),
        pytest.param("all", ("running", "weight", "bias"), marks=pytest.mark.slow),
    ],
)
def test_frozen_norms_stay_through_epochs_validation_and_resuming(
    tmp_path: Path, freeze: str, kept: tuple[str, ...]
) -> None:
    overrides = [f"norms.freeze={freeze}", "optimizer=sgd", "optimizer.lr=0.1", f"init_from={tmp_path}/start.pth"]
    before = _shaped(_config(tmp_path), tmp_path / "start.pth")
    train(_config(tmp_path, *overrides))
    last = tmp_path / "checkpoints/last.ckpt"
    train(_config(tmp_path, *overrides, "init_from=null", f"ckpt_path={last}", "trainer.max_epochs=3"))
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 6
    norms = {name for name, part in build_net(_config(tmp_path)).named_modules() if isinstance(part, nn.BatchNorm2d)}
    for name, tensor in before.items():
        owner, leaf = name.rsplit(".", 1)
        same = torch.equal(saved["state_dict"][f"net.{name}"], tensor)
        if owner in norms and leaf.startswith((*kept, "num_batches")):
            assert same, name
        elif "weight" in leaf:
            assert not same, name


class _Kinds(nn.Module):
    """A plain norm, one of timm that rectifies, and their synchronised forms with ``sync``."""

    def __init__(self, *, sync: bool) -> None:
        super().__init__()
        from timm.layers import BatchNormAct2d

        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), BatchNormAct2d(4))
        self.net = SyncBatchNorms().apply(net) if sync else net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def _freeze(module: nn.Module, what: str) -> Callable[[], None]:
    callback = FreezeNorms(what)
    callback.setup(None, module, "fit")
    return lambda: callback.on_train_batch_start(None, module, None, 0)


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("what", ["statistics", "all"])
def test_gradients_pass_frozen_norms_of_every_kind(sync: bool, what: str) -> None:
    module = _Kinds(sync=sync)
    begin_step = _freeze(module, what)
    x = torch.randn(1, 3, 1, 1)  # one value per channel, on which a norm that is trained fails
    for switch in (module.train, module.eval, module.train):
        switch()
        begin_step()
        before = [norm.running_mean.clone() for norm in batch_norms(module)]
        module.zero_grad()
        module(x).sum().backward()
        assert all(torch.equal(a, norm.running_mean) for a, norm in zip(before, batch_norms(module), strict=True))
        assert all(part.weight.grad is not None for part in module.modules() if isinstance(part, nn.Conv2d))
        assert {norm.weight.grad is None for norm in batch_norms(module)} == {what == "all"}


def test_a_net_without_batch_norms_has_none_to_freeze() -> None:
    module = nn.ModuleDict({"net": nn.Conv2d(3, 2, 1)})
    with pytest.raises(UserError, match=r"norms\.freeze=all.*norms\.freeze=null"):
        _freeze(module, "all")
    with pytest.raises(UserError, match=r"norms\.freeze=affine"):
        FreezeNorms("affine")


def test_statistics_that_no_image_shaped_are_told() -> None:
    with pytest.warns(UserWarning, match="still the initial ones"):
        FreezeNorms("statistics").on_train_start(None, _Kinds(sync=False))


def test_constants_reach_every_norm_and_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    train(_config(tmp_path, "norms.eps=1e-2", "norms.momentum=3e-4"))
    norms = batch_norms(load_module(tmp_path / "checkpoints/last.ckpt").net)
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-2, 3e-4)}
    left = batch_norms(build_net(_config(tmp_path)))
    assert {(norm.eps, norm.momentum) for norm in left} == {(1e-5, 0.1)}


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"momentum": 1.5}, {"eps": 0.0}])
def test_constants_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"norms\.{next(iter(options))}="):
        set_norms(nn.BatchNorm2d(2), **options)
