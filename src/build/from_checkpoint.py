"""From a checkpoint back to a module."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from ..checkpoints.bundle import is_bundle, metadata_of, read_config
from ..checkpoints.io import METADATA_KEY
from ..checkpoints.load import load_checkpoint, weights_of_run
from ..data import LabelSpace
from ..errors import UserError
from ..files.run_files import BEST_CHECKPOINT, LAST_CHECKPOINT
from ..hub.resolve import local_path
from ..inference import Inference
from ..losses import Supervision
from ..training.module import SegmentationModule
from . import allowed
from .config_values import as_config, as_plain, with_values
from .from_config import build_net
from .instantiate import instantiate
from .saved_config import read_sections

__all__ = [
    "checkpoint_file",
    "load_best",
    "load_last",
    "load_module",
    "naming_checkpoint",
    "naming_unusable_state",
    "read_metadata",
    "saved_config",
    "untrained",
]

_MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)


def checkpoint_file(path: str | Path) -> Path:
    """A file or bundle itself; of a run folder the weights that it scored: its best, or with ``score=last`` its last.

    An address (``hf://``, ``https://``) is the path that ``src.hub.resolve`` has of it.

    Raises:
        UserError: if a folder holds neither, or an address cannot be had.
    """
    path = local_path(path)
    if not path.is_dir():
        return path
    last, best = path / LAST_CHECKPOINT, path / BEST_CHECKPOINT
    if not last.is_file() and not best.is_file():
        if is_bundle(path):
            return path
        raise UserError(
            f"{path}: holds no {BEST_CHECKPOINT} or {LAST_CHECKPOINT}; name a run folder, a bundle or a file"
        )
    wants_last = last.is_file() and saved_config(last).get("score") == "last"
    return best if best.is_file() and not wants_last else last


def saved_config(path: str | Path) -> DictConfig:
    """What a checkpoint's config says of its model and data, references kept (``src.build.saved_config``).

    Raises:
        UserError: if the file is no checkpoint of this project, or its config cannot be used.
    """
    return as_config(read_sections(read_metadata(path)["config"], path))


def read_metadata(path: str | Path) -> Mapping[str, Any]:
    """What a checkpoint holds beside weights and the trainer's state: its config, its classes, its run's wandb id.

    Raises:
        UserError: if the file is no checkpoint of this project.
    """
    if is_bundle(path):
        return metadata_of(read_config(path))
    return _metadata(load_checkpoint(path, mmap=True), path)


def _metadata(checkpoint: Mapping[str, Any], path: str | Path) -> Mapping[str, Any]:
    metadata = checkpoint.get(METADATA_KEY)
    if metadata is None:
        raise UserError(
            f"{path}: is not a checkpoint of this project (no '{METADATA_KEY}' entry); train one with src.train,"
            " or turn another project's weights into one with src.convert"
        )
    if not isinstance(metadata, Mapping) or "config" not in metadata:
        raise UserError(f"{path}: its '{METADATA_KEY}' entry holds no config; the file is damaged")
    return metadata


def _label_space(saved: Any) -> LabelSpace:
    """The classes that a checkpoint names."""
    names, colors = saved["names"], saved["colors"]
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UserError("its label_space has names that are no texts; the file is damaged")
    if not all(len(color) == 3 and all(0 <= level <= 255 for level in color) for color in colors):
        raise UserError(
            "its label_space has colors that are not three levels of 0..255 for each class; the file is damaged"
        )
    return LabelSpace(**saved)


def load_module(
    path: str | Path,
    *,
    inference: DictConfig | None = None,
    model: DictConfig | None = None,
    output_stride: int | None = None,
) -> SegmentationModule:
    """The module in a checkpoint, in evaluation mode on the CPU.

    Nothing is built from what a checkpoint says but what ``src.build.allowed`` lists for nets and inference.

    Args:
        path: checkpoint, bundle, or run folder, see ``checkpoint_file``.
        inference: replaces the inference it was validated with.
        model: its ``scales`` replace those around the net; attention over scales can only have been trained.
        output_stride: of the backbone, where it differs from training: atrous convolutions take the same weights
            (arXiv 1706.05587, section 4.1), at rates that follow.

    Raises:
        UserError: if the file cannot be used, or names something else to build, or its net has no output stride.
    """
    path = checkpoint_file(path)
    checkpoint = load_checkpoint(path)
    metadata = _metadata(checkpoint, path)
    config = as_config(read_sections(metadata["config"], path))
    if missing := [name for name in ("model", "data", "inference") if name not in config]:
        raise UserError(f"{path}: its config has no {missing[0]}; the file is damaged, or of another program")
    saved, wanted = config.model.get("scales"), None if model is None else model.get("scales")
    same_kind = bool(saved) and bool(wanted) and saved["_target_"] == wanted["_target_"]
    if same_kind:
        config = with_values(config, {"model.scales": wanted})
    if output_stride is not None:
        config = _with_output_stride(config, output_stride)
    state = weights_of_run(checkpoint, path)
    applied = instantiate(inference, allowed.INFERENCE) if inference is not None else None
    with naming_checkpoint(path):
        with torch.device("meta"):  # first without memory: a damaged config may describe a net of any size
            _check_fit(build_net(config), state)
        module = untrained(
            config,
            build_net(config),
            _label_space(metadata["label_space"]),
            inference=applied or instantiate(config.inference, allowed.INFERENCE),
            metadata={"config": as_plain(config, resolve=False)},
        )
        module.load_state_dict(state)
    if model is not None and not same_kind:  # scales without weights go around the net once it has its own
        module.net = _with_scales(module.net.net if saved else module.net, wanted)
    return module.eval()


@contextlib.contextmanager
def naming_unusable_state(checkpoint: str | Path | None) -> Iterator[None]:
    """Names ``checkpoint`` in the error where Lightning cannot restore a trainer from it; for a block with ``fit``.

    Raises:
        UserError: in place of whatever Lightning, or what it restores, raises over the entries of the file.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if not _while_restoring(error) or "Error(s) in loading state_dict" in reason:  # another net
            raise
        raise UserError(
            f"{checkpoint}: the run cannot be resumed from it ({type(error).__name__}: {reason[:200]});"
            f" it is damaged, or options or versions have changed since: start a new run with init_from={checkpoint}"
        ) from error


def _while_restoring(error: Exception) -> bool:
    """Whether Lightning raised it in a function that puts the entries of a checkpoint into place."""
    functions = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(each.co_filename.endswith("checkpoint_connector.py") and "restore" in each.co_name for each in functions)


@contextlib.contextmanager
def naming_checkpoint(path: str | Path) -> Iterator[None]:
    """Names the file in any error that the use of its entries raises in the block."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (OmegaConfBaseException, RuntimeError, *_MALFORMED) as error:
        raise UserError(
            f"{path}: its entries cannot be used ({' '.join(str(error).split())[:300]}); the file is damaged, or of"
            " another version of this project"
        ) from error


def _check_fit(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuses weights of other names or shapes than the net of the config has, before that takes memory."""
    wanted = {f"net.{name}": tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("net.")}
    if odd := next((name for name in wanted if found.get(name) != wanted[name]), None):
        has = f"has shape {list(found[odd])}" if odd in found else "is missing"
        raise UserError(
            f"its weights do not fit the net that its config describes ({odd} {has}, wanted {list(wanted[odd])}); the"
            " file is damaged, or was put together from two"
        )


def untrained(
    config: DictConfig,
    net: nn.Module,
    label_space: LabelSpace,
    *,
    inference: Inference,
    metadata: Mapping[str, Any],
) -> SegmentationModule:
    """A module that is evaluated and saved but never trained: the normalisation of ``config.data`` before ``net``."""
    return SegmentationModule(
        net,
        label_space=label_space,
        supervision=Supervision(nn.Identity()),  # of a loss that is never asked for
        inference=inference,
        optimizer=_no_training,
        schedule=_no_training,
        mean=config.data.mean,
        std=config.data.std,
        channel_order=config.data.get("channel_order", "rgb"),
        channels_last=config.channels_last,
        metadata=metadata,
    )


def _with_output_stride(config: DictConfig, output_stride: int) -> DictConfig:
    if OmegaConf.select(config, "model.net.backbone.output_stride") is None:
        raise UserError(
            f"output_stride={output_stride}: model={config.model.name} has none to choose; leave it out, or use a net"
            " with atrous convolutions, such as deeplab_v3"
        )
    return with_values(config, {"model.net.backbone.output_stride": output_stride})


def _with_scales(net: nn.Module, scales: DictConfig | None) -> nn.Module:
    """A trained net inside other scales, which must have no weights of their own."""
    if not scales:
        return net
    wrapped = instantiate(scales, allowed.SCALES, net=net)
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
    keeper = trainer.checkpoint_callback
    if not isinstance(keeper, ModelCheckpoint) or not keeper.best_model_path:
        return None
    module.load_state_dict(load_checkpoint(keeper.best_model_path)["state_dict"])
    return Path(keeper.best_model_path)
