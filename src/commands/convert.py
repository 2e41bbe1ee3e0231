"""Published weights as a checkpoint: ``python -m src.convert source=PROJECT ckpt=FILE model=NAME out=FILE``.

The result holds what ``src.evaluate``, ``src.predict`` and ``init_from`` need: net, normalisation, classes, inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ..build import allowed
from ..build.config_values import as_plain, with_values
from ..build.from_checkpoint import saved_config, untrained
from ..build.from_config import build_net, without_download
from ..build.instantiate import instantiate
from ..build.saved_config import plain_references
from ..checkpoints.class_rows import Axes, class_axes, count_classes, take_classes
from ..checkpoints.identify import identify, renamed, translate
from ..checkpoints.io import METADATA_KEY, AtomicCheckpointIO
from ..checkpoints.load import load_checkpoint, tensors_of
from ..checkpoints.projects.catalogue import SOURCES, Source
from ..data import LabelSpace
from ..data.label_space import IGNORE_INDEX
from ..data.sets.registry import known_classes
from ..errors import UserError
from ..files.atomic import sha256
from ..files.output_paths import check_output_file
from ..files.project import CONFIG_DIR
from ..reports.console import say

_DATA = {19: "cityscapes", 21: "voc", 59: "pascal_context", 65: "mapillary", 150: "ade20k", 171: "coco_stuff",
         182: "coco_stuff"}  # fmt: skip


def convert(cfg: DictConfig) -> Path:
    """Writes ``cfg.out``; returns its path."""
    if "net" not in cfg.model:
        raise UserError(
            "model is not set; give it as model=NAME (docs/published_weights.md lists what loads which file)"
        )
    out = Path(cfg.out)
    content = load_checkpoint(cfg.ckpt, weights_only=not cfg.unsafe_pickle)
    if METADATA_KEY in content:
        raise UserError(f"{cfg.ckpt}: is a checkpoint of this project already; use it as it is, ckpt={cfg.ckpt}")
    _check_out(out, cfg.ckpt)
    state = tensors_of(content, cfg.ckpt)
    net, axes = _build(cfg)
    kind, names = type(net).__name__, list(net.state_dict())
    source = SOURCES[identify(state, kind, names, named=cfg.source, model=cfg.model.name, where=cfg.ckpt)]
    rules = source.rules[kind]
    found = _count(cfg, renamed(state, rules), axes)
    cfg = _with_data(cfg, found)
    label_space = _label_space(cfg)
    rows = _rows(cfg, label_space, found)
    cfg = with_values(
        cfg, {"data.num_classes": label_space.num_classes, **_statistics(cfg, source), **_protocol(cfg, source)}
    )
    if net.num_classes != found:
        net, _ = _build(cfg, found)
    try:
        weights = translate(state, rules, {name: tensor.shape for name, tensor in net.state_dict().items()})
    except UserError as error:
        raise UserError(f"{cfg.ckpt}, as {source.project}'s: {error}") from error
    if rows is not None:
        weights = take_classes(weights, axes, rows)
        net, _ = _build(cfg)
    net.load_state_dict(weights, assign=True)
    config = _kept(cfg, source.project)
    module = untrained(
        cfg, net, label_space, inference=instantiate(cfg.inference, allowed.INFERENCE), metadata={"config": config}
    )
    space = label_space.to_dict()
    AtomicCheckpointIO().save_checkpoint(
        {"state_dict": module.state_dict(), METADATA_KEY: {**module.metadata, "label_space": space}}, out
    )
    say(_summary(cfg, source.project, found))
    return out


def _check_out(out: Path, ckpt: str) -> None:
    """Refuses to write over the file to convert, or over anything that this command did not write."""
    check_output_file(out, suffix=".ckpt", inputs=[ckpt])
    if out.exists() and "converted" not in saved_config(out):
        raise UserError(f"out={out}: is a checkpoint that src.convert did not write; give the new one another name")


def _build(cfg: DictConfig, classes: int | None = None) -> tuple[nn.Module, Axes]:
    """The net without memory, and which of its axes count classes."""
    config = without_download(cfg)
    classes = classes or config.data.num_classes or next(iter(_DATA))
    with torch.device("meta"):
        net, wider = (build_net(with_values(config, {"model.net.num_classes": classes + more})) for more in (0, 1))
    return net, class_axes(net.state_dict(), wider.state_dict())


def _count(cfg: DictConfig, state: Mapping[str, Tensor], axes: Axes) -> int:
    found = count_classes(state, axes)
    if found is None:
        raise UserError(
            f"{cfg.ckpt}: its classifiers do not tell one number of classes; choose the model it was made with"
            " (docs/published_weights.md)"
        )
    return found


def _with_data(cfg: DictConfig, found: int) -> DictConfig:
    """``cfg`` with the data set that has ``found`` classes, where none is named."""
    if cfg.data.name != "auto":
        return cfg
    if found not in _DATA:
        raise UserError(
            f"{cfg.ckpt}: has {found} classes, which tell no data set; name it with data=..., or list them with"
            " data=folder 'data.classes=[...]'"
        )
    return with_values(cfg, {"data": OmegaConf.load(CONFIG_DIR / f"data/{_DATA[found]}.yaml")})


def _rows(cfg: DictConfig, space: LabelSpace, found: int) -> list[int] | None:
    """Which of the ``found`` outputs are the classes, where there is one for each stored value; ``None`` for all.

    Nets may have been trained on label files as they are: COCO-Stuff's 182 values of which 171 are classes, ADE20K's
    151 with 0 for what is not labelled. Outputs that stand for no class are left out.
    """
    if found == space.num_classes:
        return None
    values = {train_id: value for value, train_id in (space.file_values or {}).items() if train_id != IGNORE_INDEX}
    if values and found == max(values.values()) + 1:
        return [values[train_id] for train_id in range(space.num_classes)]
    other = f"data={_DATA[found]}" if found in _DATA else "data=folder 'data.classes=[...]'"
    raise UserError(
        f"{cfg.ckpt}: its net has {found} classes, but data={cfg.data.name} has {space.num_classes}; choose the data it"
        f" was trained on, such as {other}"
    )


def _label_space(cfg: DictConfig) -> LabelSpace:
    known = known_classes(as_plain(cfg.data.dataset))
    return known or instantiate(cfg.data.dataset, allowed.DATA)(split=cfg.data.splits.val[0]).label_space


def _statistics(cfg: DictConfig, source: Source) -> dict[str, Any]:
    """Option -> value, of what the project's nets expect of an image; none where the command line gives it."""
    if cfg.statistics != "source":
        return {}
    statistics = source.statistics_for(cfg.data.name)
    if statistics is None:
        raise UserError(
            f"{source.project} has statistics for {', '.join(source.statistics)} only, not for data={cfg.data.name};"
            " give them as 'data.mean=[...]' 'data.std=[...]', or statistics=given to take those of data"
        )
    return {
        "data.mean": list(statistics.mean),
        "data.std": list(statistics.std),
        "data.channel_order": statistics.channel_order,
    }


def _protocol(cfg: DictConfig, source: Source) -> dict[str, Any]:
    """Option -> value, of how the project's figures were measured; none where the command line gives it."""
    if cfg.protocol != "source":
        return {}
    values: dict[str, Any] = {"inference.multiple": 1}  # none of these projects pads
    if protocol := source.protocols.get(cfg.data.name):
        values |= {"inference.short_side": protocol.short_side, "inference.long_side": protocol.long_side}
        if protocol.scales and "low_scale" in (cfg.model.get("scales") or {}):
            values |= {"model.scales.scales": list(protocol.scales), "inference.flip": protocol.flip}
    return values


def _kept(cfg: DictConfig, project: str) -> dict[str, Any]:
    """The config that the checkpoint carries, and which file it was."""
    path = Path(cfg.ckpt)
    converted = {"project": project, "file": path.name}
    if path.is_file():
        converted["sha256"] = sha256(path)
    kept = OmegaConf.masked_copy(cfg, ["model", "data", "inference", "channels_last"])
    return plain_references(with_values(kept, {"converted": converted}))


def _summary(cfg: DictConfig, project: str, found: int) -> str:
    classes = cfg.data.num_classes
    of = f" of the {found} outputs" if found != classes else ""
    mean, std = ([round(float(value), 4) for value in values] for values in (cfg.data.mean, cfg.data.std))
    scales = cfg.model.scales.scales if cfg.model.get("scales") else cfg.inference.scales
    given = {"short": cfg.inference.short_side, "long": cfg.inference.long_side}
    sides = "".join(f", {name} side {side}" for name, side in given.items() if side)
    return (
        f"{cfg.out}: {project}, model={cfg.model.name}, {classes}{of} classes of {cfg.data.name};"
        f" {cfg.data.channel_order} less {mean} over {std}; scales {list(scales)}{sides}, flip {cfg.inference.flip}\n"
        f"next: python -m src.evaluate ckpt={cfg.out} data.root=..., or src.predict ckpt={cfg.out} source=..."
    )
