"""From a config to objects. The only library file in which Hydra instantiates."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from hydra import utils as hydra_utils
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.callbacks import Progress
from src.checkpoints.io import AtomicCheckpointIO
from src.data import LabelSpace, SegmentationDataModule
from src.errors import UserError
from src.layer_sync import SyncBatchNorms
from src.losses import Supervision
from src.module import SegmentationModule
from src.optim import param_groups
from src.options import check_options

__all__ = [
    "build_callbacks",
    "build_datamodule",
    "build_loggers",
    "build_module",
    "build_net",
    "build_tester",
    "build_trainer",
    "instantiate",
    "settle_classes",
    "without_download",
]

_PRETRAINED = {"model.net.backbone.pretrained": False, "model.net.encoder_weights": None}  # option and its off
_TARGETS = ("src.", "torch.", "pytorch_lightning.", "albumentations.", "timm.")


def instantiate(node: Any, *, allowed: tuple[str, ...] = _TARGETS, **arguments: Any) -> Any:
    """The object that ``node`` describes, nested ones included, with plain containers as arguments.

    Raises:
        UserError: for a ``_target_`` outside the allowed packages, or arguments that it does not take.
    """
    for target, options in _targets(node):
        if not target.startswith(allowed):
            raise UserError(f"_target_ {target} is not allowed; use one that starts with {', '.join(allowed)}")
        _check_lists(target, options)
    try:
        with warnings.catch_warnings():
            # Albumentations drops arguments that it does not know, such as the former name of a mask's fill value.
            warnings.filterwarnings("error", message="Argument.* not valid for transform")
            return hydra_instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, (TypeError, ValueError, RuntimeError, UserWarning)):
            raise UserError(f"{node['_target_']}: {' '.join(str(cause).split())}; correct its values") from error
        if isinstance(cause, ImportError):
            raise UserError(f"{node['_target_']} needs a missing package ({cause}); see requirements.txt") from error
        raise


def _targets(node: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Every target in ``node`` with its options."""
    plain = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
    if isinstance(plain, Mapping):
        own = [(plain["_target_"], plain)] if "_target_" in plain else []
        return own + [found for value in plain.values() for found in _targets(value)]
    return [found for value in plain for found in _targets(value)] if isinstance(plain, list) else []


def _check_lists(target: str, options: Mapping[str, Any]) -> None:
    """Refuses a single number where one of this project's constructors takes a list."""
    scalars = [
        name for name, value in options.items() if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not scalars or not target.startswith("src."):
        return
    parameters = inspect.signature(hydra_utils.get_object(target)).parameters
    for name in scalars:
        if name in parameters and str(parameters[name].annotation).startswith("Sequence["):
            raise UserError(f"{name}={options[name]} must be a list; write {name}=[{options[name]}]")


def build_datamodule(cfg: DictConfig) -> SegmentationDataModule:
    """The data of ``cfg.data`` with the augmentation of ``cfg.transforms``."""
    check_options(cfg)
    import src.data.transforms  # noqa: F401, sets the environment before a config makes Hydra import albumentations

    transforms = cfg.get("transforms")  # evaluation has none
    return SegmentationDataModule(
        instantiate(cfg.data.dataset),
        OmegaConf.to_container(cfg.data.splits, resolve=True),
        train_transform=instantiate(transforms) if transforms else None,
        batch_size=cfg.data.batch_size,
        eval_batch_size=cfg.data.eval_batch_size,
        num_workers=cfg.data.num_workers,
        seed=cfg.seed,
    )


def settle_classes(cfg: DictConfig, label_space: LabelSpace) -> None:
    """Sets ``cfg.data.num_classes`` where it is left to the data, and checks it where it is not.

    Raises:
        UserError: if the config and the data set disagree.
    """
    if cfg.data.num_classes is None:
        cfg.data.num_classes = label_space.num_classes
    if cfg.data.num_classes != label_space.num_classes:
        names = ", ".join(label_space.names[:4])
        raise UserError(
            f"data.num_classes={cfg.data.num_classes} but the data set '{cfg.data.name}' has"
            f" {label_space.num_classes} classes"
            f" ({names}, ...); set data.num_classes={label_space.num_classes} or correct its class list"
        )


def build_net(cfg: DictConfig, *, allowed: tuple[str, ...] = _TARGETS) -> nn.Module:
    """The net of ``cfg.model.net`` inside the scales of ``cfg.model.scales``, where there are any."""
    net = instantiate(cfg.model.net, allowed=allowed)
    backbone = getattr(net, "backbone", None)
    if getattr(backbone, "needs_all_read", False) and not getattr(net, "reads_all", False):
        raise UserError(
            f"model={cfg.model.name} reads some of its backbone's maps only, and an HRNet exchanges between all; choose"
            " another backbone, or model=fcn_hrnet_w48 or hrnet_ocr"
        )
    return instantiate(cfg.model.scales, allowed=allowed, net=net) if cfg.model.get("scales") else net


def build_module(cfg: DictConfig, label_space: LabelSpace) -> SegmentationModule:
    """The net of ``cfg.model`` with its loss, inference, optimiser and schedule."""
    settle_classes(cfg, label_space)
    net = build_net(without_download(cfg.copy()) if cfg.ckpt_path else cfg)
    mean, std = _statistics(cfg, net)
    if cfg.compile:
        net.compile()
    return SegmentationModule(
        net,
        label_space=label_space,
        supervision=Supervision(instantiate(cfg.loss), _given(cfg.model.aux_weights)),
        inference=instantiate(cfg.inference),
        optimizer=functools.partial(_optimizer, OmegaConf.to_container(cfg.optimizer, resolve=True)),
        schedule=functools.partial(_schedule, instantiate(cfg.schedule)),
        mean=mean,
        std=std,
        seed=cfg.seed,
        channels_last=cfg.channels_last,
        metadata={"config": OmegaConf.to_container(cfg, resolve=False)},
    )


def without_download(config: DictConfig) -> DictConfig:
    """``config`` itself, changed for a net whose weights all come from a checkpoint."""
    for option, off in _PRETRAINED.items():
        if OmegaConf.select(config, option):
            OmegaConf.update(config, option, off)
    return config


def _statistics(cfg: DictConfig, net: nn.Module) -> tuple[list[float], list[float]]:
    """RGB mean and std, 0..1: those that a pretrained backbone was trained with, else the data's."""
    if any(OmegaConf.select(cfg, option) for option in _PRETRAINED):
        for part in net.modules():
            if hasattr(part, "pretrained_cfg"):
                return list(part.pretrained_cfg["mean"]), list(part.pretrained_cfg["std"])
    return cfg.data.mean, cfg.data.std


def _given(weights: DictConfig | None) -> dict[str, float]:
    return {name: weight for name, weight in (weights or {}).items() if weight is not None}


def _optimizer(options: Mapping[str, Any], net: Any) -> Any:
    groups = param_groups(
        net, lr=options["lr"], weight_decay=options["weight_decay"], lr_multipliers=options["lr_multipliers"]
    )
    return _called("optimizer.algorithm", instantiate(options["algorithm"]), groups, lr=options["lr"])


def _schedule(make: Callable[[int], Callable[[int], float]], total_steps: int) -> Callable[[int], float]:
    factor = _called("schedule", make, total_steps)
    _called("schedule", factor, 0)
    return factor


def _called(option: str, make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What ``make`` gives; a value that it cannot use is the option's fault."""
    try:
        return make(*arguments, **named)
    except (TypeError, ValueError) as error:
        raise UserError(f"{option}: {error}; correct its values") from error


def build_callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """The callbacks of ``cfg.callbacks`` that are not null, and weight averaging where ``cfg.ema`` asks for it."""
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node]
    if cfg.ema is not None:
        callbacks.insert(0, pl.callbacks.EMAWeightAveraging(decay=cfg.ema))
    return callbacks


def build_loggers(cfg: DictConfig) -> list[Any]:
    """The loggers of ``cfg.logger``; each entry is one."""
    return [instantiate(node) for node in (cfg.logger or {}).values() if node]


def build_trainer(cfg: DictConfig, *, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    """A Lightning trainer; checkpoints are written whole, and loaders bring their own sharding."""
    options = OmegaConf.to_container(cfg.trainer, resolve=True)
    plugins: list[Any] = [AtomicCheckpointIO()]
    if options.pop("sync_batchnorm", False):
        plugins.append(SyncBatchNorms())
    return _trainer(**options, default_root_dir=cfg.run_dir, callbacks=callbacks, logger=loggers, plugins=plugins)


def build_tester(cfg: DictConfig) -> pl.Trainer:
    """A trainer on the same devices that only tests; it neither logs nor saves."""
    trainer = OmegaConf.to_container(cfg.trainer, resolve=True)
    same = ("accelerator", "devices", "strategy", "num_nodes", "precision", "limit_test_batches", "deterministic")
    return _trainer(
        **{name: trainer[name] for name in same if name in trainer},
        callbacks=[Progress()],
        logger=False,
        enable_checkpointing=False,
    )


def _trainer(**options: Any) -> pl.Trainer:
    try:
        return pl.Trainer(**options, use_distributed_sampler=False, enable_model_summary=False)
    except (pl.utilities.exceptions.MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}; correct trainer=... or its options") from error
