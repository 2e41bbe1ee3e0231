"""Weights start a net whatever project they are of, and with or without scales around it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.build.from_config import build_module, build_net
from src.build.init_from import init_from
from src.checkpoints.io import METADATA_KEY
from src.data import LabelSpace
from src.data.label_space import distinct_colors
from src.errors import UserError
from src.training.module import SegmentationModule
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


def _holding(net: nn.Module) -> SimpleNamespace:
    """What ``init_from`` reads of a module: the net, and how it normalises images."""
    return SimpleNamespace(net=net, normalize=SimpleNamespace(std=torch.full((3,), 255 * 0.225), channel_order="rgb"))


@pytest.mark.parametrize("source", [_plain, _wrapped])
@pytest.mark.parametrize("target", [_plain, _wrapped])
def test_own_checkpoints_fill_nets_with_and_without_scales(source, target, tmp_path: Path) -> None:
    torch.manual_seed(1)
    given, net = source(), target()
    state = {f"net.{name}": tensor for name, tensor in given.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "own.ckpt")
    told = init_from(_holding(net), tmp_path / "own.ckpt")
    assert "this project" in told
    theirs, ours = getattr(given, "net", given).state_dict(), getattr(net, "net", net).state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    if source is target is _wrapped:
        assert torch.equal(given.attention.last.weight, net.attention.last.weight)


@pytest.mark.parametrize(
    "key", ["state_dict", *(pytest.param(key, marks=pytest.mark.slow) for key in ("model_state", None))]
)
def test_another_projects_file_fills_the_net_inside_the_scales(key: str | None, tmp_path: Path) -> None:
    state = dict(load_keys(ROOT / "tests/golden/keys/torchvision_fcn_resnet50.json"))
    fill(state)
    torch.save({key: state} if key else state, tmp_path / "theirs.pth")
    net = _net("model/scales=hierarchical", "model.net.backbone.name=resnet50", "data.num_classes=21")
    told = init_from(_holding(net), tmp_path / "theirs.pth")
    assert "torchvision, inside the scales" in told
    assert torch.equal(net.net.head.classifier.weight, state["classifier.4.weight"])
    assert torch.equal(net.net.backbone.trunk.conv1.weight, state["backbone.conv1.weight"])


def test_a_plain_file_is_called_plain_even_with_the_prefix_of_parallel_training(tmp_path: Path) -> None:
    net = _plain()
    torch.save({f"module.{name}": tensor for name, tensor in net.state_dict().items()}, tmp_path / "plain.pth")
    told = init_from(_holding(_plain()), tmp_path / "plain.pth")
    assert "a plain state dict" in told
    assert f"loaded {len(net.state_dict())} of {len(net.state_dict())}" in told


def test_a_file_of_nothing_known_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"weights.of.another": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"weights\.of\.another"):
        init_from(_holding(_plain()), tmp_path / "odd.pth")


@pytest.mark.parametrize(("score", "taken"), [("best", 1.0), ("last", 2.0)])
def test_of_a_run_folder_the_weights_that_it_scored_are_taken(score: str, taken: float, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    net = _plain()
    for name, value in (("best", 1.0), ("last", 2.0)):
        state = {f"net.{key}": torch.full_like(tensor, value) for key, tensor in net.state_dict().items()}
        torch.save(
            {"state_dict": state, METADATA_KEY: {"config": {"score": score}}}, tmp_path / f"checkpoints/{name}.ckpt"
        )
    init_from(_holding(net), tmp_path)
    assert (net.head.classifier.weight == taken).all()
    (tmp_path / "checkpoints/last.ckpt").unlink()
    (tmp_path / "checkpoints/best.ckpt").unlink()
    with pytest.raises(UserError, match=r"holds no checkpoints/best\.ckpt"):
        init_from(_holding(net), tmp_path)


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    torch.save(_net("model.net.backbone.name=resnet18").state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"only \d+ of the backbone's \d+ tensors fit"):
        init_from(_holding(_plain()), tmp_path / "other.pth")


def test_what_a_file_lacks_and_what_it_has_beside_is_listed(tmp_path: Path) -> None:
    """As of a release with one more 3x3 convolution, and another number of classes."""
    state = _plain().state_dict()
    state["head.convs.9.conv.weight"] = torch.zeros(8, 8, 3, 3)
    del state["head.classifier.bias"]
    state["head.classifier.weight"] = state["head.classifier.weight"][:5]
    torch.save(state, tmp_path / "theirs.pth")
    told = init_from(_holding(_plain()), tmp_path / "theirs.pth")
    assert "missing 1: head.classifier.bias" in told
    assert "unexpected 1: head.convs.9.conv.weight" in told
    assert "misshaped 1: head.classifier.weight (5, " in told


def _module(*names: str, overrides: tuple[str, ...] = ()) -> SegmentationModule:
    given = ["model=fcn_torchvision", SMALL[0], f"data.num_classes={len(names)}", "run_dir=x", *overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return build_module(compose("train", overrides=given), LabelSpace(names, distinct_colors(len(names))))


def _save(module: SegmentationModule, path: Path) -> Path:
    metadata = {**module.metadata, "label_space": module.label_space.to_dict()}
    torch.save({"state_dict": module.state_dict(), METADATA_KEY: metadata}, path)
    return path


@pytest.mark.parametrize("names", [("Traffic-Light", "tree", "sky", "car"), ("tree", "car", "traffic_light")])
def test_classes_of_the_same_name_keep_their_rows_wherever_they_are(names: tuple[str, ...], tmp_path: Path) -> None:
    """With another number of classes, and with the same number in another order."""
    given, module = _module("road", "car", "traffic light"), _module(*names)
    pairs = [(1, names.index("car")), (2, [name.lower().startswith("traffic") for name in names].index(True))]
    heads = {name: t.clone() for name, t in module.net.state_dict().items() if "classifier" in name}
    assert len(heads) == 4
    told = init_from(module, _save(given, tmp_path / "given.ckpt"))
    assert f"classes: 2 of {len(names)} carried over by name" in told
    assert "misshaped" not in told
    for name, before in heads.items():
        after, theirs = module.net.state_dict()[name], given.net.state_dict()[name]
        for row in range(len(names)):
            expected = next((theirs[other] for other, own in pairs if own == row), before[row])
            assert torch.equal(after[row], expected)
    theirs = given.net.backbone.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in module.net.backbone.state_dict().items())


def test_equal_classes_are_no_news_and_others_start_anew(tmp_path: Path) -> None:
    path = _save(_module("road", "car"), tmp_path / "given.ckpt")
    assert "classes:" not in init_from(_module("road", "car"), path)
    module = _module("cat", "dog")
    before = module.net.head.classifier.weight.clone()
    assert "classes: 0 of 2 carried over by name, the others are initialised anew" in init_from(module, path)
    assert torch.equal(module.net.head.classifier.weight, before)


def test_one_logit_for_two_classes_is_carried_whole(tmp_path: Path) -> None:
    one = ("model.net.num_classes=1",)
    given, module = _module("background", "cell", overrides=one), _module("background", "nucleus", overrides=one)
    assert "classes:" not in init_from(module, _save(given, tmp_path / "given.ckpt"))
    assert torch.equal(module.net.head.classifier.weight, given.net.head.classifier.weight)


def test_weights_that_were_trained_on_other_images_say_so(tmp_path: Path) -> None:
    caffe = ("data.channel_order=bgr", "data.std=[0.003922,0.003922,0.003922]")
    path = _save(_module("road", "car", overrides=caffe), tmp_path / "given.ckpt")
    assert "data.channel_order=bgr" in init_from(_module("road", "car"), path)
    assert "expect other images" not in init_from(_module("road", "car", overrides=caffe), path)
