"""From a checkpoint back to a module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.build import build_net, without_download
from src.checkpoints.io import METADATA_KEY
from src.checkpoints.reading import load_checkpoint
from src.data import LabelSpace
from src.errors import UserError
from src.instantiate import instantiate
from src.losses import Supervision
from src.module import SegmentationModule

__all__ = [
    "checkpoint_file",
    "keep_wandb_id",
    "load_best",
    "load_last",
    "load_module",
    "readable_checkpoint",
    "saved_config",
    "untrained",
]

_TARGETS_OF_CHECKPOINTS = ("src.models.", "src.inference.")  # files from elsewhere may name nothing else


def checkpoint_file(path: str | Path) -> Path:
    """``path`` itself, or of a run folder the weights that the run scored: its best, or with ``score=last`` its last.

    Raises:
        UserError: if a folder holds neither.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    last, best = (path / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    if not last.is_file() and not best.is_file():
        raise UserError(f"{path}: holds no checkpoints/best.ckpt or last.ckpt; name a run folder or a file")
    wants_last = last.is_file() and saved_config(last).get("score") == "last"
    return best if best.is_file() and not wants_last else last


def readable_checkpoint(run_dir: Path) -> Path:
    """The last checkpoint of a run, or its best one, and a line that says so, where the last is damaged.

    Raises:
        UserError: if the best cannot be read either.
    """
    last, best = (run_dir / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    try:
        saved_config(last)
    except UserError as error:
        if not best.is_file():
            raise
        saved_config(best)
        print(f"note: going on from {best}, because the last checkpoint cannot be used: {error}", flush=True)
        return best
    return last


def keep_wandb_id(checkpoint: Path, run_dir: Path) -> None:
    """Lets a run whose folder was made anew go on in the wandb run that its checkpoint names."""
    saved, file = (
        _metadata(load_checkpoint(checkpoint, mmap=True), checkpoint).get("wandb_id"),
        run_dir / "wandb_id.txt",
    )
    if saved and not file.is_file():
        file.write_text(saved)


def saved_config(path: str | Path) -> DictConfig:
    """The config a checkpoint was trained with, interpolations kept.

    Raises:
        UserError: if the file is no checkpoint of this project.
    """
    return OmegaConf.create(_metadata(load_checkpoint(path, mmap=True), path)["config"])


def _metadata(checkpoint: Mapping[str, Any], path: str | Path) -> Mapping[str, Any]:
    if METADATA_KEY not in checkpoint:
        raise UserError(
            f"{path}: is not a checkpoint of this project (no '{METADATA_KEY}' entry); train one with src.train,"
            " or turn another project's weights into one with src.convert"
        )
    return checkpoint[METADATA_KEY]


def load_module(
    path: str | Path,
    *,
    inference: DictConfig | None = None,
    model: DictConfig | None = None,
    output_stride: int | None = None,
) -> SegmentationModule:
    """The module in a checkpoint, in evaluation mode on the CPU.

    Nothing outside ``src.models`` and ``src.inference`` is ever built from what a checkpoint says.

    Args:
        path: checkpoint file.
        inference: replaces the inference it was validated with.
        model: its ``scales`` replace those around the net; attention over scales can only have been trained.
        output_stride: of the backbone, where it differs from training: atrous convolutions take the same weights
            (arXiv 1706.05587, section 4.1), at rates that follow.

    Raises:
        UserError: if the file cannot be used, or names something else to build, or its net has no output stride.
    """
    checkpoint = load_checkpoint(path)
    metadata = _metadata(checkpoint, path)
    config = OmegaConf.create(metadata["config"])
    saved, wanted = config.model.get("scales"), None if model is None else model.get("scales")
    same_kind = bool(saved) and bool(wanted) and saved["_target_"] == wanted["_target_"]
    if same_kind:
        config.model.scales = wanted
    if output_stride is not None:
        _set_output_stride(config, output_stride)
    module = untrained(
        config,
        build_net(without_download(config), allowed=_TARGETS_OF_CHECKPOINTS),
        LabelSpace(**metadata["label_space"]),
        inference=config.inference if inference is None else inference,
        metadata={"config": metadata["config"]},
    )
    module.load_state_dict(checkpoint["state_dict"])
    if model is not None and not same_kind:
        module.net = _with_scales(module.net.net if saved else module.net, wanted)
    return module.eval()


def untrained(
    config: DictConfig,
    net: nn.Module,
    label_space: LabelSpace,
    *,
    inference: DictConfig,
    metadata: Mapping[str, Any],
) -> SegmentationModule:
    """A module that is evaluated and saved but never trained: the normalisation of ``config.data`` before ``net``."""
    return SegmentationModule(
        net,
        label_space=label_space,
        supervision=Supervision(None),
        inference=instantiate(inference, allowed=_TARGETS_OF_CHECKPOINTS),
        optimizer=_no_training,
        schedule=_no_training,
        mean=config.data.mean,
        std=config.data.std,
        channel_order=config.data.get("channel_order", "rgb"),
        channels_last=config.channels_last,
        metadata=metadata,
    )


def _set_output_stride(config: DictConfig, output_stride: int) -> None:
    if OmegaConf.select(config, "model.net.backbone.output_stride") is None:
        raise UserError(
            f"output_stride={output_stride}: model={config.model.name} has none to choose; leave it out, or use a net"
            " with atrous convolutions, such as deeplab_v3"
        )
    config.model.net.backbone.output_stride = output_stride


def _with_scales(net: nn.Module, scales: DictConfig | None) -> nn.Module:
    """A trained net inside other scales, which must have no weights of their own."""
    if not scales:
        return net
    wrapped = instantiate(scales, allowed=_TARGETS_OF_CHECKPOINTS, net=net)
    if len(wrapped.state_dict()) > len(net.state_dict()):
        raise UserError(
            f"the checkpoint has no {type(wrapped).__name__} over scales; choose model/scales=none, average or max, or"
            " train with it (src.train init_from=<checkpoint>)"
        )
    return wrapped


def _no_training(*_: Any) -> Any:
    raise UserError("a module loaded for evaluation is not trained; use src.train init_from=<checkpoint>")


def load_last(module: SegmentationModule, path: Path) -> Path | None:
    """Puts the weights of the last checkpoint of a finished fit into ``module``, averaged ones where it has them.

    ``None`` if there is none: ``module`` keeps its weights.
    """
    if not path.is_file():
        return None
    module.load_state_dict(load_checkpoint(path)["state_dict"])
    return path


def load_best(module: SegmentationModule, trainer: pl.Trainer) -> Path | None:
    """Puts the weights of the best checkpoint of a finished fit into ``module``; ``None`` if nothing was saved."""
    best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""
    if not best:
        return None
    module.load_state_dict(load_checkpoint(best)["state_dict"])
    return Path(best)
