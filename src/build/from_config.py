"""From a config to data, module and trainer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from ..callbacks import LargestFirst, Progress, StopOnSignal, TimeLimit, only_own_handlers
from ..checkpoints.io import AtomicCheckpointIO
from ..data import LabelSpace, SegmentationDataModule
from ..data.augment.pipeline import eval_transform
from ..data.sampling.class_weights import class_weights
from ..errors import UserError
from ..losses import Supervision
from ..optim import param_groups
from ..training.batch_norm import FreezeNorms, SyncBatchNorms, set_norms
from ..training.module import SegmentationModule
from . import allowed
from .config_values import as_plain, with_values
from .instantiate import instantiate, targets
from .saved_config import plain_references

__all__ = [
    "build_callbacks",
    "build_datamodule",
    "build_loggers",
    "build_module",
    "build_net",
    "build_tester",
    "build_trainer",
    "with_class_weights",
    "with_classes",
    "without_download",
]

_PRETRAINED = {"model.net.backbone.pretrained": False, "model.net.encoder_weights": None}  # option -> value for "none"


def build_datamodule(cfg: DictConfig) -> SegmentationDataModule:
    """The data of ``cfg.data`` with the augmentation of ``cfg.transforms``."""
    transforms = cfg.get("transforms")  # evaluation has none
    sampler = cfg.get("sampler")
    eval_edge = cfg.data.get("eval_long_edge")
    return SegmentationDataModule(
        instantiate(cfg.data.dataset, allowed.DATA),
        as_plain(cfg.data.splits),
        train_transform=instantiate(transforms, allowed.TRANSFORM) if transforms else None,
        eval_transform=None if eval_edge is None else eval_transform(eval_edge),
        sampler=instantiate(sampler, allowed.SAMPLER) if sampler else None,
        batch_size=cfg.data.batch_size,
        eval_batch_size=cfg.data.eval_batch_size,
        num_workers=cfg.data.num_workers,
        seed=cfg.seed,
    )


def with_classes(cfg: DictConfig, label_space: LabelSpace) -> DictConfig:
    """``cfg`` with the number of classes of the data, where it is left to them.

    Raises:
        UserError: if the config and the data set disagree.
    """
    if cfg.data.num_classes is None:
        return with_values(cfg, {"data.num_classes": label_space.num_classes})
    if cfg.data.num_classes != label_space.num_classes:
        names = ", ".join(label_space.names[:4])
        raise UserError(
            f"data.num_classes={cfg.data.num_classes} but the data set '{cfg.data.name}' has"
            f" {label_space.num_classes} classes"
            f" ({names}, ...); set data.num_classes={label_space.num_classes} or correct its class list"
        )
    return cfg


def with_class_weights(cfg: DictConfig, datamodule: SegmentationDataModule) -> DictConfig:
    """``cfg`` with numbers in place of a rule in ``data.class_weights``, computed from the training labels.

    Raises:
        UserError: for an unknown rule, labels that cannot be read, or a loss that weighs no classes.
    """
    rule = cfg.data.get("class_weights")
    if rule is None:
        return cfg
    losses = [*targets(cfg.loss), *targets(cfg.get("aux_loss") or {})]
    if not any("class_weights" in options for _, options in losses):
        raise UserError(
            f"data.class_weights={rule} has no effect on {cfg.loss._target_}; choose a loss that weighs classes"
            " (loss=cross_entropy, ohem, bce, ce_dice, ...), or set data.class_weights=null"
        )
    if isinstance(rule, str):
        weights = class_weights(datamodule.train_dataset.source, rule)
        return with_values(cfg, {"data.class_weights": weights})
    if len(rule) != datamodule.label_space.num_classes:
        raise UserError(
            f"data.class_weights has {len(rule)} entries but there are {datamodule.label_space.num_classes} classes;"
            " give one per class"
        )
    return cfg


def _check_head(net: nn.Module, label_space: LabelSpace) -> None:
    """Refuses a single class, and a net whose logits are neither one for each class nor one for two classes."""
    given, classes = net.num_classes, label_space.num_classes
    if classes == 1:
        name = label_space.names[0]
        raise UserError(
            f"the data have one class, '{name}', so there is nothing to tell it from; name what is around it too:"
            f" 'data.classes=[background,{name}]', for masks of 0 and 255 with experiment=binary"
        )
    if given != classes and (given, classes) != (1, 2):
        one = ", which only two classes can share" if given == 1 else ""
        raise UserError(
            f"model.net.num_classes={given}{one}, but the data have {classes} classes"
            f" ({', '.join(label_space.names[:4])}{', ...' if classes > 4 else ''}); set"
            f" model.net.num_classes={classes}, or for one foreground class experiment=binary with data.classes of two"
        )


def build_net(cfg: DictConfig) -> nn.Module:
    """The net of ``cfg.model.net`` inside the scales of ``cfg.model.scales``, where there are any."""
    net = instantiate(cfg.model.net, allowed.NET)
    if norms := cfg.get("norms"):
        set_norms(net, momentum=norms.momentum, eps=norms.eps)
    if net.backbone is not None and net.backbone.needs_all_read and not net.reads_all:
        raise UserError(
            f"model={cfg.model.name} reads some of its backbone's maps only, and an HRNet exchanges between all; choose"
            " another backbone, or model=fcn_hrnet_w48 or hrnet_ocr"
        )
    return instantiate(cfg.model.scales, allowed.SCALES, net=net) if cfg.model.get("scales") else net


def build_module(cfg: DictConfig, label_space: LabelSpace) -> SegmentationModule:
    """The net of ``cfg.model`` with its loss, inference, optimiser and schedule."""
    cfg = with_classes(cfg, label_space)
    net = build_net(without_download(cfg) if cfg.ckpt_path else cfg)
    _check_head(net, label_space)
    mean, std = _statistics(cfg, net)
    if cfg.compile:
        net.compile()
    return SegmentationModule(
        net,
        label_space=label_space,
        supervision=Supervision(
            instantiate(cfg.loss, allowed.LOSS),
            {name: weight for name, weight in (as_plain(cfg.model.aux_weights) or {}).items() if weight is not None},
            aux_criterion=instantiate(cfg.aux_loss, allowed.LOSS) if cfg.get("aux_loss") else None,
        ),
        inference=instantiate(cfg.inference, allowed.INFERENCE),
        optimizer=functools.partial(_optimizer, as_plain(cfg.optimizer)),
        schedule=functools.partial(_schedule, instantiate(cfg.schedule, allowed.SCHEDULE)),
        mean=mean,
        std=std,
        channel_order=cfg.data.get("channel_order", "rgb"),
        seed=cfg.seed,
        channels_last=cfg.channels_last,
        metadata={"config": plain_references(cfg)},
    )


def without_download(config: DictConfig) -> DictConfig:
    """``config`` for a net whose weights all come from a checkpoint."""
    return with_values(config, {name: none for name, none in _PRETRAINED.items() if OmegaConf.select(config, name)})


def _statistics(cfg: DictConfig, net: nn.Module) -> tuple[list[float], list[float]]:
    """RGB mean and std, 0..1: those that a pretrained backbone was trained with, else the data's."""
    if any(OmegaConf.select(cfg, option) for option in _PRETRAINED):
        for part in net.modules():
            if hasattr(part, "pretrained_cfg"):  # as timm names it
                known = cast(Mapping[str, Any], part.pretrained_cfg)
                return list(known["mean"]), list(known["std"])
    return cfg.data.mean, cfg.data.std


def _optimizer(options: Mapping[str, Any], net: nn.Module, images_per_step: int) -> Any:
    """``options`` are those of ``cfg.optimizer``; its rate is for ``reference_batch`` images a step."""
    named = dict(options)
    algorithm = instantiate(named.pop("algorithm"), allowed.OPTIMIZER)
    lr, reference = named.pop("lr"), named.pop("reference_batch", None)
    if reference:
        lr *= images_per_step / reference
    return _called("optimizer.algorithm", algorithm, _called("optimizer", param_groups, net, lr=lr, **named), lr=lr)


def _schedule(make: Callable[..., Callable[[int], float]], *steps: int) -> Callable[[int], float]:
    factor = _called("schedule", make, *steps)
    _called("schedule", factor, 0)
    return factor


def _called(option: str, make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Calls ``make``; blames ``option`` for a value that it cannot use."""
    try:
        return make(*arguments, **named)
    except (TypeError, ValueError) as error:
        raise UserError(f"{option}: {error}; correct its values") from error


def build_callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """The callbacks of ``cfg.callbacks`` that are not null, and weight averaging where ``cfg.ema`` asks for it."""
    callbacks = [instantiate(node, allowed.CALLBACK) for node in cfg.callbacks.values() if node]
    if freeze := OmegaConf.select(cfg, "norms.freeze"):
        callbacks.insert(0, FreezeNorms(freeze))
    if cfg.ema is not None:
        callbacks.insert(0, pl.callbacks.EMAWeightAveraging(decay=cfg.ema))
    return callbacks


def build_loggers(cfg: DictConfig) -> list[Any]:
    """The loggers of ``cfg.logger``; each entry is one."""
    return [instantiate(node, allowed.LOGGER) for node in (cfg.logger or {}).values() if node]


def build_trainer(cfg: DictConfig, *, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    """A Lightning trainer; checkpoints are written whole, and loaders bring their own sharding."""
    options = as_plain(cfg.trainer)
    if limit := options.pop("max_time", None):
        callbacks = [*callbacks, TimeLimit(limit)]
    plugins: list[Any] = [AtomicCheckpointIO()]
    if options.pop("sync_batchnorm", False):
        plugins.append(SyncBatchNorms())
    return _trainer(**options, default_root_dir=cfg.run_dir, callbacks=callbacks, logger=loggers, plugins=plugins)


def build_tester(cfg: DictConfig, *callbacks: pl.Callback) -> pl.Trainer:
    """A trainer on the same devices that only tests, with ``callbacks``; it neither logs nor saves."""
    trainer = as_plain(cfg.trainer)
    same = ("accelerator", "devices", "strategy", "num_nodes", "precision", "limit_test_batches", "deterministic")
    return _trainer(
        **{name: trainer[name] for name in same if name in trainer},
        callbacks=[Progress(), *callbacks],
        logger=False,
        enable_checkpointing=False,
    )


def _trainer(*, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    callbacks = [*callbacks, LargestFirst(), StopOnSignal()]
    try:
        trainer = pl.Trainer(**options, callbacks=callbacks, use_distributed_sampler=False, enable_model_summary=False)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}; correct trainer=... or its options") from error
    return only_own_handlers(trainer)
