"""A checkpoint is scored with other scales around its net than it was trained with, where that has a meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.build import from_checkpoint, from_config
from src.checkpoints.io import METADATA_KEY
from src.errors import UserError
from tests.conftest import ROOT

SMALL = ["model=fcn_torchvision", "model.net.backbone.name=test_resnet", "data.length={train: 2, val: 2, test: 2}"]
IMAGE = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)


def _compose(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*SMALL, *overrides, "run_dir=runs/x"])


def _save(path: Path, *overrides: str) -> Path:
    cfg = _compose(*overrides)
    module = from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)
    space = module.label_space.to_dict()
    torch.save({"state_dict": module.state_dict(), METADATA_KEY: {**module.metadata, "label_space": space}}, path)
    return path


@pytest.mark.parametrize("trained", ["none", "average", "hierarchical"])
@pytest.mark.parametrize("used", ["none", "average", "max"])
def test_scales_without_weights_are_free(trained: str, used: str, tmp_path: Path) -> None:
    path = _save(tmp_path / "a.ckpt", f"model/scales={trained}")
    module = from_checkpoint.load_module(path, model=_compose(f"model/scales={used}").model)
    names = {type(part).__name__ for part in module.net.modules()}
    assert ("PooledScales" in names) == (used != "none")
    assert "HierarchicalAttention" not in names
    assert module.predict_label(IMAGE).shape == (1, 64, 96)


def test_attention_takes_another_list_and_must_have_been_trained(tmp_path: Path) -> None:
    plain, trained = _save(tmp_path / "a.ckpt"), _save(tmp_path / "b.ckpt", "model/scales=hierarchical")
    wanted = _compose("model/scales=hierarchical", "model.scales.scales=[0.5,1,2]").model
    assert from_checkpoint.load_module(trained, model=wanted).net.scales == (0.5, 1.0, 2.0)
    with pytest.raises(UserError, match="no HierarchicalAttention"):
        from_checkpoint.load_module(plain, model=wanted)


def test_an_atrous_net_is_evaluated_at_another_output_stride(tmp_path: Path) -> None:
    """DeepLab v3 trains at 16 and is evaluated at 8: the same weights, rates that follow, a finer map."""
    small = ["model.net.backbone.name=test_resnet", "model.net.backbone.multi_grid=null", "model.net.aspp_channels=8"]
    path = _save(tmp_path / "net.ckpt", "model=deeplab_v3", *small)
    coarse, fine = from_checkpoint.load_module(path).net, from_checkpoint.load_module(path, output_stride=8).net
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert coarse.decode(image)["logits"].shape[-2:] == (4, 6)
        assert fine.decode(image)["logits"].shape[-2:] == (8, 12)
    assert all(torch.equal(a, b) for a, b in zip(coarse.state_dict().values(), fine.state_dict().values(), strict=True))


def test_a_net_without_an_output_stride_has_none_to_choose(tmp_path: Path) -> None:
    path = _save(tmp_path / "net.ckpt", "model=fcn_hrnet_w48", "model.net.backbone.name=hrnet_w18_small")
    with pytest.raises(UserError, match="output_stride=8: model=fcn_hrnet_w48 has none to choose"):
        from_checkpoint.load_module(path, output_stride=8)
