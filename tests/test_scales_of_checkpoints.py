"""A checkpoint is scored with other scales around its net than it was trained with, where that has a meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from src.build import from_checkpoint
from src.errors import UserError
from tests.conftest import SMALL, composed, save_untrained

IMAGE = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)


def _model(*overrides: str) -> DictConfig:
    return composed("train", *SMALL, *overrides, "run_dir=runs/x").model


@pytest.fixture(scope="module")
def checkpoints(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scales that a net was trained with -> its checkpoint."""
    folder = tmp_path_factory.mktemp("scales")
    wrapped = {name: [*SMALL, f"model/scales={name}"] for name in ("average", "hierarchical")}
    return {"none": untrained} | {name: save_untrained(folder / name, *given) for name, given in wrapped.items()}


@pytest.fixture(scope="module")
def models() -> dict[str, DictConfig]:
    """Scales that a net is used with -> its part of the config."""
    return {name: _model(f"model/scales={name}") for name in ("none", "average", "max")}


@pytest.mark.parametrize("trained", ["none", "average", "hierarchical"])
@pytest.mark.parametrize("used", ["none", "average", "max"])
def test_scales_without_weights_are_free(
    trained: str, used: str, checkpoints: dict[str, Path], models: dict[str, DictConfig]
) -> None:
    module = from_checkpoint.load_module(checkpoints[trained], model=models[used])
    names = {type(part).__name__ for part in module.net.modules()}
    assert ("PooledScales" in names) == (used != "none")
    assert "HierarchicalAttention" not in names
    assert module.predict_label(IMAGE).shape == (1, 64, 96)


def test_attention_takes_another_list_and_must_have_been_trained(checkpoints: dict[str, Path]) -> None:
    wanted = _model("model/scales=hierarchical", "model.scales.scales=[0.5,1,2]")
    assert from_checkpoint.load_module(checkpoints["hierarchical"], model=wanted).net.scales == (0.5, 1.0, 2.0)
    with pytest.raises(UserError, match="no HierarchicalAttention"):
        from_checkpoint.load_module(checkpoints["none"], model=wanted)


def test_an_atrous_net_is_evaluated_at_another_output_stride(tmp_path: Path) -> None:
    """DeepLab v3 trains at 16 and is evaluated at 8: the same weights, rates that follow, a finer map."""
    small = ["model.net.backbone.name=test_resnet", "model.net.backbone.multi_grid=null", "model.net.aspp_channels=8"]
    path = save_untrained(tmp_path / "net.ckpt", "model=deeplab_v3", *small)
    coarse, fine = from_checkpoint.load_module(path).net, from_checkpoint.load_module(path, output_stride=8).net
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert coarse.decode(image)["logits"].shape[-2:] == (4, 6)
        assert fine.decode(image)["logits"].shape[-2:] == (8, 12)
    assert all(torch.equal(a, b) for a, b in zip(coarse.state_dict().values(), fine.state_dict().values(), strict=True))


def test_a_net_without_an_output_stride_has_none_to_choose(tmp_path: Path) -> None:
    own = ["model=fcn_hrnet_w48", "model.net.backbone.name=hrnet_w18_small"]
    path = save_untrained(tmp_path / "net.ckpt", *own)
    with pytest.raises(UserError, match="output_stride=8: model=fcn_hrnet_w48 has none to choose"):
        from_checkpoint.load_module(path, output_stride=8)
