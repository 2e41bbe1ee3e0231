"""Every YAML composes, resolves and builds; no shipped option may rot."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.build import allowed, from_config
from src.build.instantiate import instantiate
from src.errors import UserError
from src.models import BiSeNetV2
from src.optim import param_groups
from tests.conftest import ROOT
from tests.models.meta import on_meta

CONF = ROOT / "conf"
TINY = ["data.length={train: 4, val: 2, test: 2}", "data.size=[32,64]", "data.num_workers=0"]


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def _composer() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def _compose(*overrides: str, tmp: Path | None = None) -> DictConfig:
    return compose("train", overrides=[*overrides, f"run_dir={tmp or 'runs/x'}"])


GROUPS = ("loss", "aux_loss", "optimizer", "schedule", "inference", "transforms", "trainer", "logger", "sampler")
ROWS = list(itertools.zip_longest(*(_options(group) for group in GROUPS)))  # every option in one of them


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(filter(None, row)))
def test_every_option_of_every_group_composes_and_resolves(row: tuple[str | None, ...]) -> None:
    assert all(ROWS[0]), "a group without options"
    chosen = [f"{group}={option}" for group, option in zip(GROUPS, row, strict=True) if option]
    OmegaConf.to_container(_compose(*chosen), resolve=True)


@pytest.mark.parametrize("data", _options("data"))
def test_every_data_set_composes_with_the_net(data: str) -> None:
    cfg = _compose(f"data={data}")
    assert len(cfg.data.mean) == len(cfg.data.std) == 3
    assert set(cfg.data.splits) == {"train", "val", "test"}
    assert OmegaConf.to_container(cfg, resolve=True)["model"]["net"]["num_classes"] == cfg.data.num_classes


def _is_variant(model: str) -> bool:
    """Whether a model is another's net on another trunk, under other scales, or as one public implementation has it."""
    projects = ("_mmseg", "_vainf", "_kazuto", "_torchvision", "_coincheung")
    trunks = ("_mobilenet", "_mobilenetv2", "_xception", "_xception65", "_xception71")
    return model.endswith((*projects, *trunks, "_explicit", "_paper"))


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=pytest.mark.slow) if _is_variant(name) else name for name in _options("model")],
)
def test_every_model_has_the_outputs_its_weights_name(model: str) -> None:
    """On the meta device: names and sizes are real, numbers are not computed. Large HRNets, slow there, are small."""
    cfg = _compose(f"model={model}", *TINY)
    if OmegaConf.select(cfg, "model.net.backbone.name", default="").startswith("hrnet_w48"):
        cfg.model.net.backbone.name = "hrnet_w18_small"
    with on_meta(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small images under large atrous rates
        module = from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)
        outputs = module.net.train()(torch.empty(2, 3, 97, 130))
        alone = module.net.eval()(torch.empty(1, 3, 97, 130))
    assert set(module.supervision.aux_weights) == {name for name in outputs if name.startswith("aux_")}
    assert alone["logits"].shape == (1, 11, 97, 130)
    assert not [name for name in alone if name.startswith("aux_")]


@pytest.mark.slow
@pytest.mark.parametrize("model", _options("model"))
def test_every_model_takes_a_training_step(model: str) -> None:
    cfg = _compose(f"model={model}", *TINY)
    module = from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        least = module.net.backbone.min_size if module.net.backbone else 0
        size = (max(64, least), max(128, least))
        outputs = module.net.train()(torch.randn(2, 3, *size))
    loss, parts = module.supervision(outputs, torch.randint(11, (2, *size), dtype=torch.uint8))
    loss.backward()
    assert set(parts) == {name for name in outputs if name == "logits" or name.startswith("aux_")}
    assert all(p.grad.isfinite().all() for p in module.net.parameters() if p.requires_grad)


def test_the_yaml_of_the_paper_repeats_the_constructor() -> None:
    defaults = inspect.signature(BiSeNetV2).parameters
    given = OmegaConf.to_container(_compose("model=bisenetv2"), resolve=True)["model"]["net"]
    assert given.keys() - {"_target_"} == defaults.keys() - {"in_channels"}
    for name in given.keys() - {"_target_", "num_classes", "aux_channels"}:
        assert given[name] == defaults[name].default
    assert {stage: tuple(widths) for stage, widths in given["aux_channels"].items()} == defaults["aux_channels"].default


@pytest.mark.parametrize(
    ("overrides", "heads"),
    [
        (["model.net.aux_channels.s2=null", "model.aux_weights.aux_s2=null"], 3),
        (["model.net.fusion=detail", "model.net.aux_channels=null", "model.aux_weights=null"], 0),
    ],
)
def test_booster_heads_are_left_out_with_null(overrides: list[str], heads: int) -> None:
    cfg = _compose(*overrides, *TINY)
    module = from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)
    outputs = module.net.train()(torch.randn(2, 3, 32, 64))
    assert len(module.supervision(outputs, torch.zeros(2, 32, 64, dtype=torch.uint8))[1]) == heads + 1


@pytest.mark.parametrize("experiment", ["binary", "bisenetv2_camvid_480"])
def test_experiments_compose(experiment: str) -> None:
    """Those that no source gives figures for; test_recipes has the others."""
    OmegaConf.to_container(_compose(f"experiment={experiment}"), resolve=True)


@pytest.mark.parametrize("experiment", ["camvid_cpu", "hmsa_cityscapes_sota"])
@pytest.mark.parametrize("debug", _options("debug"))
def test_experiments_compose_with_every_debug_preset(experiment: str, debug: str) -> None:
    OmegaConf.to_container(_compose(f"experiment={experiment}", f"debug={debug}"), resolve=True)


OPTIMIZERS, SCHEDULES = _options("optimizer"), _options("schedule")


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    list(zip(itertools.cycle(OPTIMIZERS), SCHEDULES, strict=False)),
)
def test_every_optimizer_and_every_schedule_runs(optimizer: str, schedule: str) -> None:
    assert len(OPTIMIZERS) <= len(SCHEDULES)
    cfg = _compose(f"optimizer={optimizer}", f"schedule={schedule}")
    net = torch.nn.Conv2d(3, 2, 1)
    groups = param_groups(net, lr=cfg.optimizer.lr, weight_decay=cfg.optimizer.weight_decay)
    factor = instantiate(cfg.schedule, allowed.SCHEDULE)(100, 10)
    stepper = torch.optim.lr_scheduler.LambdaLR(instantiate(cfg.optimizer.algorithm, allowed.OPTIMIZER)(groups), factor)
    for _ in range(100):
        net(torch.randn(1, 3, 2, 2)).sum().backward()
        stepper.optimizer.step()
        stepper.step()
    ends = {"poly": 0, "warmup_poly": 0, "step": cfg.optimizer.lr, "constant": cfg.optimizer.lr}
    assert stepper.get_last_lr()[0] == pytest.approx(ends[schedule])


def test_a_target_outside_the_allowed_packages_is_refused() -> None:
    with pytest.raises(UserError, match=r"os\.system is not allowed"):
        instantiate(OmegaConf.create({"_target_": "os.system", "command": "true"}), allowed.LOSS)
    nested = OmegaConf.create({"_target_": "src.losses.CrossEntropyLoss", "x": [{"_target_": "subprocess.run"}]})
    with pytest.raises(UserError, match=r"subprocess\.run is not allowed"):
        instantiate(nested, allowed.LOSS)


def test_an_unknown_argument_names_target_and_argument() -> None:
    with pytest.raises(UserError, match=r"CrossEntropyLoss.*gamma"):
        instantiate(OmegaConf.create({"_target_": "src.losses.CrossEntropyLoss", "gamma": 2}), allowed.LOSS)


def test_a_class_count_that_is_not_the_data_sets_is_refused() -> None:
    cfg = _compose("data.num_classes=19", *TINY)
    with pytest.raises(UserError, match=r"data\.num_classes=19 .*toy_streets.* 11 classes.*data\.num_classes=11"):
        from_config.build_module(cfg, from_config.build_datamodule(cfg).label_space)


def test_impossible_trainer_options_end_in_one_sentence() -> None:
    cfg = _compose("trainer.precision=17-wrong", *TINY)
    with pytest.raises(UserError, match=r"trainer: .*17-wrong"):
        from_config.build_trainer(cfg, callbacks=[], loggers=[])


def test_samplers_from_yaml_draw_an_epoch_from_two_pools() -> None:
    options = ["sampler.fraction=1", "sampler.bias={sky: 0, car: 2}", "sampler.extra=[val]", "sampler.extra_share=0.25"]
    cfg = _compose("sampler=class_uniform", *options, *TINY, "data.length={train: 40, val: 9, test: 2}")
    loader = from_config.build_datamodule(cfg).train_dataloader()
    keys = [key for batch in loader.batch_sampler for key in batch]
    assert len(keys) == 32  # whole batches of 40
    assert 5 <= sum(key.index >= 40 for key in keys) <= 11
    assert sum(key.focus is not None for key in keys) >= 20
