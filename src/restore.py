"""From a checkpoint back to a module, and weights of any known project into a net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from src.build import build_net, without_download
from src.checkpoints import ann, coincheung, deeplab_pytorch, hrnet, mmseg, nvidia, torchvision, vainf
from src.checkpoints.io import METADATA_KEY, load_checkpoint, load_matching
from src.checkpoints.key_maps import rename
from src.data import LabelSpace
from src.errors import UserError
from src.instantiate import instantiate
from src.losses import Supervision
from src.module import SegmentationModule

__all__ = ["check_start", "init_from", "load_best", "load_module", "saved_config"]

FOREIGN_LAYOUTS = {
    "CoinCheung/BiSeNet": coincheung.RULES,
    "mmsegmentation": mmseg.RULES,
    "NVIDIA/semantic-segmentation": nvidia.RULES,
    "HRNet/HRNet-Semantic-Segmentation": hrnet.RULES,
    "torchvision": torchvision.RULES,
    "VainF/DeepLabV3Plus-Pytorch": vainf.RULES,
    "MendelXu/ANN": ann.RULES,
    "kazuto1011/deeplab-pytorch": deeplab_pytorch.RULES,
}

_RECIPES = Path(__file__).resolve().parent.parent / "conf/experiment"
_STATE_KEYS = ("state_dict", "model_state", "model")  # where the projects' files hold their tensors
_TARGETS_OF_CHECKPOINTS = ("src.models.", "src.inference.")  # files from elsewhere may name nothing else


def saved_config(path: str | Path) -> DictConfig:
    """The config a checkpoint was trained with, interpolations kept.

    Raises:
        UserError: if the file is no checkpoint of this project.
    """
    metadata = load_checkpoint(path, mmap=True).get(METADATA_KEY)
    if metadata is None:
        raise UserError(
            f"{path}: is not a checkpoint of this project (no '{METADATA_KEY}' entry); train one with src.train"
        )
    return OmegaConf.create(metadata["config"])


def load_module(
    path: str | Path, *, inference: DictConfig | None = None, model: DictConfig | None = None
) -> SegmentationModule:
    """The module in a checkpoint, in evaluation mode on the CPU.

    Nothing outside ``src.models`` and ``src.inference`` is ever built from what a checkpoint says.

    Args:
        path: checkpoint file.
        inference: replaces the inference it was validated with.
        model: its ``scales`` replace those around the net; attention over scales can only have been trained.

    Raises:
        UserError: if the file cannot be used, or names something else to build.
    """
    config = saved_config(path)
    saved, wanted = config.model.get("scales"), None if model is None else model.get("scales")
    same_kind = bool(saved) and bool(wanted) and saved["_target_"] == wanted["_target_"]
    if same_kind:
        config.model.scales = wanted
    checkpoint = load_checkpoint(path)
    module = SegmentationModule(
        build_net(without_download(config), allowed=_TARGETS_OF_CHECKPOINTS),
        label_space=LabelSpace(**checkpoint[METADATA_KEY]["label_space"]),
        supervision=Supervision(None),
        inference=instantiate(config.inference if inference is None else inference, allowed=_TARGETS_OF_CHECKPOINTS),
        optimizer=_no_training,
        schedule=_no_training,
        mean=config.data.mean,
        std=config.data.std,
        channels_last=config.channels_last,
        metadata={"config": checkpoint[METADATA_KEY]["config"]},
    )
    module.load_state_dict(checkpoint["state_dict"])
    if model is not None and not same_kind:
        module.net = _with_scales(module.net.net if saved else module.net, wanted)
    return module.eval()


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


def load_best(module: SegmentationModule, trainer: pl.Trainer) -> Path | None:
    """Puts the weights of the best checkpoint of a finished fit into ``module``; ``None`` if nothing was saved."""
    best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""
    if not best:
        return None
    module.load_state_dict(load_checkpoint(best)["state_dict"])
    return Path(best)


def init_from(module: SegmentationModule, path: str | Path) -> str:
    """Copies the weights of a checkpoint that fit into ``module.net``; returns what became of them.

    The file may be this project's, a plain state dict of the net, or one of the projects in ``FOREIGN_LAYOUTS``. Of a
    run folder the weights are taken that the run scored: its best, or with ``score=last`` its last.

    Raises:
        UserError: if the file cannot be read, or nothing in it fits.
    """
    check_start(path)
    path = _of_run(Path(path)) if Path(path).is_dir() else path
    checkpoint = load_checkpoint(path)
    state = next((checkpoint[key] for key in _STATE_KEYS if key in checkpoint), checkpoint)
    own = module.net.state_dict()
    readings = dict(_readings(module.net, state))
    origin = max(readings, key=lambda each: len(readings[each].keys() & own.keys()))
    fitting = readings[origin] if readings[origin].keys() & own.keys() else dict(state)
    trunk = [name for name in own if "backbone." in name]
    found = [name for name in trunk if name in fitting and fitting[name].shape == own[name].shape]
    if trunk and fitting.keys() & own.keys() and len(found) < 0.9 * len(trunk):
        raise UserError(
            f"init_from {path} ({origin}): only {len(found)} of the backbone's {len(trunk)} tensors fit; choose the"
            " model and backbone it was trained with"
        )
    return f"init_from {path} ({origin}): {load_matching(module.net, fitting)}"


def check_start(path: str | Path) -> None:
    """Raise a ``UserError`` unless there is a file or folder for ``init_from``, with the recipe that would make it."""
    path = Path(path)
    if path.exists():
        return
    if (_RECIPES / f"{path.name}.yaml").is_file():
        first = f"train that recipe first: src.train experiment={path.name} hydra.run.dir={path}, or"
    else:
        first = "put it there (docs/recipes.md), or"
    raise UserError(
        f"init_from={path}: file or run folder not found; {first} give another as init_from=PATH; init_from=null"
        " starts without"
    )


def _of_run(folder: Path) -> Path:
    last, best = (folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    if not last.is_file() and not best.is_file():
        raise UserError(f"init_from={folder}: holds no checkpoints/best.ckpt or last.ckpt; name a run folder or a file")
    wants_last = last.is_file() and saved_config(last).get("score") == "last"
    return best if best.is_file() and not wants_last else last


def _readings(net: nn.Module, state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors under the names that ``net`` would know them by, for each project they may come from."""
    ours = {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}
    yield "this project", ours
    yield "this project, without its scales", {name.removeprefix("net."): tensor for name, tensor in ours.items()}
    if isinstance(getattr(net, "net", None), nn.Module):
        for project, reading in _readings(net.net, state):
            yield f"{project}, inside the scales", {f"net.{name}": tensor for name, tensor in reading.items()}
    yield "a plain state dict", {name.removeprefix("module."): tensor for name, tensor in state.items()}
    for project, layouts in FOREIGN_LAYOUTS.items():
        if rules := layouts.get(type(net).__name__):
            yield project, {new: tensor for name, tensor in state.items() if (new := rename(name, rules))}
