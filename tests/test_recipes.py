"""Recipes: what an experiment composes is what its paper or code says, and each of them trains."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.build import from_config
from src.data.sets.cityscapes import label_space
from tests.conftest import ROOT

RECIPES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tests/recipes.yaml").read_text())
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))
OWN = {
    "binary",
    "bisenetv2_camvid_480",
    "camvid_cpu",
    "deeplab_v2_camvid_cpu",
    "hmsa_camvid_cpu",
}  # no source gives their figures


@pytest.fixture(autouse=True, scope="module")
def _composer() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def _batch(cfg: DictConfig) -> int:
    trainer = cfg.trainer
    assert isinstance(trainer.devices, int), "what devices=auto finds is nobody's recipe"
    return trainer.devices * trainer.num_nodes * cfg.data.batch_size * trainer.accumulate_grad_batches


def _steps(cfg: DictConfig) -> int:
    assert cfg.trainer.max_epochs == -1
    return cfg.trainer.max_steps


def _epochs(cfg: DictConfig) -> int:
    assert cfg.trainer.max_steps == -1
    return cfg.trainer.max_epochs


def _choice(group: str) -> Callable[[DictConfig], str | None]:
    return lambda cfg: cfg.hydra.runtime.choices[group]


def _value(path: str) -> Callable[[DictConfig], Any]:
    return lambda cfg: OmegaConf.select(cfg, path, default="absent")


def _aux_weights(cfg: DictConfig) -> dict[str, float]:
    return {name: weight for name, weight in cfg.model.aux_weights.items() if weight is not None}


READ: dict[str, Callable[[DictConfig], Any]] = {
    # length and batch
    "batch": _batch,
    "device_batch": _value("data.batch_size"),
    "steps": _steps,
    "epochs": _epochs,
    # data
    "classes": _value("data.num_classes"),
    "train": _value("data.splits.train"),
    "mean": _value("data.mean"),
    "std": _value("data.std"),
    "min_confidence": _value("data.min_confidence"),
    "sampler": _choice("sampler"),
    **{name: _value(f"sampler.{name}") for name in ("fraction", "tile", "last_epoch")},
    # augmentation
    "crop": _value("transforms.crop_size"),
    "input": _value("transforms.output_size"),
    **{
        name: _value(f"transforms.{name}")
        for name in (
            *("scale", "aspect", "long_edge", "short_side", "max_class_share", "flip"),
            *("brightness", "contrast", "saturation", "hue", "brightness_shift", "blur"),
        )
    },
    # optimisation
    **{name: _value(f"optimizer.{name}") for name in ("lr", "weight_decay", "decay_on")},
    **{name: _value(f"optimizer.algorithm.{name}") for name in ("momentum", "nesterov")},
    "multipliers": _value("optimizer.lr_multipliers"),
    "bias_lr": _value("optimizer.bias_lr_multiplier"),
    "schedule": _choice("schedule"),
    **{
        name: _value(f"schedule.{name}")
        for name in ("power", "every", "factor", "floor", "warmup", "warmup_steps", "warmup_start")
    },
    "min_lr": lambda cfg: cfg.schedule.floor * cfg.optimizer.lr,
    # net and loss
    "norms": _value("norms.freeze"),
    "output_stride": _value("model.net.backbone.output_stride"),
    "low_scale": _value("model.scales.low_scale"),
    "aux": _aux_weights,
    "loss": _choice("loss"),
    "aux_loss": _choice("aux_loss"),
    **{name: _value(f"loss.{name}") for name in ("reduction", "threshold", "min_kept", "class_weights")},
}


@functools.cache
def _compose(name: str, *overrides: str) -> DictConfig:
    named = ["run_dir=runs/x", "hydra.job.num=0", "hydra.runtime.output_dir=runs/x"]
    return compose("train", overrides=[f"experiment={name}", *named, *overrides], return_hydra_config=True)


@pytest.mark.parametrize("name", RECIPES)
def test_each_figure_is_its_sources(name: str) -> None:
    cfg = _compose(name)
    composed = {key: _plain(READ[key](cfg)) for key in RECIPES[name]}
    wrong = {key: (composed[key], value) for key, value in RECIPES[name].items() if not _same(composed[key], value)}
    assert not wrong
    OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]), resolve=True)
    splits = [split for named in cfg.data.splits.values() for split in named]
    assert {*splits, *cfg.sampler.extra} <= set(cfg.data.release.images)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _same(composed: Any, value: Any) -> bool:
    return composed == (pytest.approx(value) if isinstance(value, float) else value)


def test_recipes_and_their_page_are_complete() -> None:
    assert set(EXPERIMENTS) == set(RECIPES) | OWN
    page = (ROOT / "docs/recipes.md").read_text()
    assert set(re.findall(r"`experiment=(\w+)`", page)) == set(EXPERIMENTS)


def test_another_trainer_takes_the_machines_of_a_recipe_along() -> None:
    """``experiment=... trainer=gpu`` must not wait for machines that the recipe alone has."""
    for name in EXPERIMENTS:
        own = yaml.safe_load((ROOT / f"conf/experiment/{name}.yaml").read_text()).get("trainer", {})
        assert not {"accelerator", "devices", "num_nodes", "strategy", "precision", "sync_batchnorm"} & set(own), name
    cfg = _compose("hmsa_cityscapes_sota", "trainer=gpu")
    assert (_batch(cfg), cfg.trainer.strategy) == (1, "auto")


# Trunks of a size to try, by net; everything else stays the recipe's.
RESNET = ["model.net.backbone.name=test_resnet"]  # timm's smallest, 0.4 M parameters
CAFFE = [*RESNET, "model.net.backbone.stride_on_1x1=false"]  # its blocks have no 1x1
ATROUS = [*RESNET, "model.net.backbone.multi_grid=null", "model.net.aspp_channels=32"]  # nor has a stage three blocks
XCEPTION = ["model.net.backbone.name=mobilenetv2_035", "model.net.aspp_channels=32"]
VGG = ["model.net.backbone.fc_channels=16"]
FCN = [*VGG, "model.net.pad_100=false"]
ANN = [*RESNET, "model.net.channels=32", "model.net.key_channels=16", "model.net.value_channels=16"]
OCR = ["model.net.backbone.name=hrnet_w18_small", "model.net.mid_channels=32", "model.net.key_channels=16"]
ATTENTION = [*OCR, "model.scales.attention_channels=[16]"]
SMALL = {
    **dict.fromkeys(("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce"), FCN),
    **dict.fromkeys(("deeplab_v1", "deeplab_v1_msc", "deeplab_v2_vgg"), VGG),
    **dict.fromkeys(("deeplab_v2", "deeplab_v2_kazuto"), CAFFE),
    **dict.fromkeys(("deeplab_v3", "deeplab_v3plus"), ATROUS),
    **dict.fromkeys(("deeplab_v3plus_xception65", "deeplab_v3plus_xception71"), XCEPTION),
    **dict.fromkeys(("bisenetv2", "bisenetv2_coincheung", "bisenetv2_mmseg"), ()),
    "bisenetv2_large": ["model.net.width_multiplier=1", "model.net.depth_multiplier=2"],
    **dict.fromkeys(("ann", "ann_mmseg"), ANN),
    **dict.fromkeys(("hrnet_ocr", "hrnet_ocr_hrnet"), OCR),
    "hrnet_ocr_hierarchical": ATTENTION,
}
SHORT = [
    *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=1", "trainer.strategy=auto"),
    *("trainer.precision=32-true", "trainer.sync_batchnorm=false", "trainer.limit_val_batches=0"),
    *("trainer.max_epochs=-1", "trainer.max_steps=2", "+trainer.enable_checkpointing=false"),
    *("data.batch_size=2", "data.num_workers=0", "data.splits={train: [train], val: [train], test: [train]}"),
    *("init_from=null", "transforms.crop_size=[97,97]"),
    *(f"callbacks.{name}=null" for name in ("best", "last", "throughput", "history", "charts", "panels", "progress")),
]


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A folder of images 120x104 in any number of classes, Cityscapes' if it has as many."""

    @functools.cache
    def make(num_classes: int) -> Path:
        root, generator = tmp_path_factory.mktemp(f"classes_{num_classes}"), np.random.default_rng(num_classes)
        names = label_space().names if num_classes == 19 else [f"c{i}" for i in range(num_classes)]
        (root / "classes.txt").write_text("\n".join(names))
        for split in ("train", "train_extra"):
            for i in range(8):
                blocks = generator.integers(0, num_classes, (13, 15), dtype=np.uint8)
                label = blocks.repeat(8, 0).repeat(8, 1)
                _write(root / "masks" / split / f"{i}.png", label)
                _write(root / "images" / split / f"{i}.png", np.stack([label * k % 251 for k in (1, 7, 31)], axis=2))
        return root

    return make


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of small images, few batches, and norms without statistics
@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_trains(name: str, made_up: Callable[[int], Path]) -> None:
    """Two steps with the recipe's own loss, sampler, augmentation, schedule, parameter groups, norms and scales."""
    plain = _compose(name)
    backbone, resized = plain.model.net.get("backbone"), plain.transforms.output_size
    scratch = ["model.net.backbone.pretrained=false"] if backbone else []
    halved = ["transforms.output_size=[49,49]"] if resized else []
    cfg = _compose(name, *SHORT, *SMALL[plain.model.name], *scratch, *halved).copy()
    folder = {
        "_target_": "src.data.folder.source.folder",
        "_partial_": True,
        "root": str(made_up(cfg.data.num_classes)),
    }
    cfg.data.dataset = folder
    datamodule = from_config.build_datamodule(cfg)
    module = from_config.build_module(cfg, datamodule.label_space)
    trainer = from_config.build_trainer(cfg, callbacks=from_config.build_callbacks(cfg), loggers=[])
    trainer.fit(module, datamodule)
    assert trainer.global_step == 2
    for group in trainer.optimizers[0].param_groups:
        gradients = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        assert any(gradient.any() for gradient in gradients)
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.slow
def test_a_stage_fits_the_one_before() -> None:
    """The nets as they are, on the meta device: the later backbone's tensors are the earlier's."""
    stages = {name: before for name in RECIPES if (before := _stage_before(name))}
    assert stages["fcn8s_voc"] == "fcn16s_voc"
    assert set(stages.values()) <= set(RECIPES)
    for name, before in stages.items():
        assert _backbone(name).items() <= _backbone(before).items()


@functools.cache
def _backbone(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        state = from_config.build_net(_compose(name, "model.net.backbone.pretrained=false")).state_dict()
    return {key.removeprefix("net."): tensor.shape for key, tensor in state.items() if "backbone." in key}


def _stage_before(name: str) -> str | None:
    """The recipe whose run this one starts from."""
    folder, _, recipe = str(_compose(name).init_from).rpartition("/")
    return recipe if folder == "runs" else None
