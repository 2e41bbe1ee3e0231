"""Weights start a net whatever project they are of, and with or without scales around it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.build import build_net
from src.checkpoints.io import METADATA_KEY
from src.errors import UserError
from src.restore import init_from
from tests.conftest import ROOT
from tests.reference_fill import fill, load_keys

SMALL = ["model.net.backbone.name=test_resnet", "model.scales.attention_channels=[8]"]


def _net(*overrides: str) -> nn.Module:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return build_net(compose("train", overrides=["model=fcn_torchvision", *overrides]))


def _plain() -> nn.Module:
    return _net(SMALL[0])


def _wrapped() -> nn.Module:
    return _net("model/scales=hierarchical", *SMALL)


@pytest.mark.parametrize("source", [_plain, _wrapped])
@pytest.mark.parametrize("target", [_plain, _wrapped])
def test_own_checkpoints_fill_nets_with_and_without_scales(source, target, tmp_path: Path) -> None:
    torch.manual_seed(1)
    given, net = source(), target()
    state = {f"net.{name}": tensor for name, tensor in given.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "own.ckpt")
    told = init_from(SimpleNamespace(net=net), tmp_path / "own.ckpt")
    assert "this project" in told
    theirs, ours = getattr(given, "net", given).state_dict(), getattr(net, "net", net).state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    if source is target is _wrapped:
        assert torch.equal(given.attention.last.weight, net.attention.last.weight)


@pytest.mark.parametrize("key", ["state_dict", "model_state", None])
def test_another_projects_file_fills_the_net_inside_the_scales(key: str | None, tmp_path: Path) -> None:
    state = dict(load_keys(ROOT / "tests/golden/keys/torchvision_fcn_resnet50.json"))
    fill(state)
    torch.save({key: state} if key else state, tmp_path / "theirs.pth")
    net = _net("model/scales=hierarchical", "model.net.backbone.name=resnet50", "data.num_classes=21")
    told = init_from(SimpleNamespace(net=net), tmp_path / "theirs.pth")
    assert "torchvision, inside the scales" in told
    assert torch.equal(net.net.head.classifier.weight, state["classifier.4.weight"])
    assert torch.equal(net.net.backbone.trunk.conv1.weight, state["backbone.conv1.weight"])


def test_a_plain_file_is_called_plain_even_with_the_prefix_of_parallel_training(tmp_path: Path) -> None:
    net = _plain()
    torch.save({f"module.{name}": tensor for name, tensor in net.state_dict().items()}, tmp_path / "plain.pth")
    told = init_from(SimpleNamespace(net=_plain()), tmp_path / "plain.pth")
    assert "a plain state dict" in told
    assert f"loaded {len(net.state_dict())} of {len(net.state_dict())}" in told


def test_a_file_of_nothing_known_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"weights.of.another": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"weights\.of\.another"):
        init_from(SimpleNamespace(net=_plain()), tmp_path / "odd.pth")


@pytest.mark.parametrize(("score", "taken"), [("best", 1.0), ("last", 2.0)])
def test_of_a_run_folder_the_weights_that_it_scored_are_taken(score: str, taken: float, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    net = _plain()
    for name, value in (("best", 1.0), ("last", 2.0)):
        state = {f"net.{key}": torch.full_like(tensor, value) for key, tensor in net.state_dict().items()}
        torch.save(
            {"state_dict": state, METADATA_KEY: {"config": {"score": score}}}, tmp_path / f"checkpoints/{name}.ckpt"
        )
    init_from(SimpleNamespace(net=net), tmp_path)
    assert (net.head.classifier.weight == taken).all()
    (tmp_path / "checkpoints/last.ckpt").unlink()
    (tmp_path / "checkpoints/best.ckpt").unlink()
    with pytest.raises(UserError, match=r"holds no checkpoints/best\.ckpt"):
        init_from(SimpleNamespace(net=net), tmp_path)


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    torch.save(_net("model.net.backbone.name=resnet18").state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"only \d+ of the backbone's \d+ tensors fit"):
        init_from(SimpleNamespace(net=_plain()), tmp_path / "other.pth")
