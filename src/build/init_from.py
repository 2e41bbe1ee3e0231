"""How a run starts from weights: of a run of this project, of another project, with other classes or scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.class_rows import carry_over, class_axes, count_classes, same_classes
from ..checkpoints.identify import renamed
from ..checkpoints.io import METADATA_KEY, load_matching
from ..checkpoints.load import check_finite, load_checkpoint, tensors_of
from ..checkpoints.projects.catalogue import SOURCES, Statistics
from ..errors import UserError
from ..files.project import CONFIG_DIR
from ..hub.resolve import local_path
from ..hub.resolve import origin as address_of
from ..training.module import SegmentationModule
from .config_values import as_config, with_values
from .from_checkpoint import checkpoint_file, naming_checkpoint
from .from_config import build_net, without_download
from .saved_config import read_sections

__all__ = ["check_start", "init_from"]

_RECIPES = CONFIG_DIR / "experiment"


def init_from(module: SegmentationModule, path: str | Path) -> str:
    """Copies the weights of a checkpoint that fit into ``module.net``; returns what became of them.

    ``path`` may be a run folder (``src.build.from_checkpoint.checkpoint_file``), a bundle, a file of this project, a
    plain state dict of the net, or one of the projects in ``SOURCES``. A checkpoint of this project knows its classes:
    where the run has other classes, each classifier takes the rows of those that both name, and its other rows are
    initialised anew.

    Raises:
        UserError: if the file cannot be read, or nothing in it fits.
    """
    path = checkpoint_file(check_start(path))
    checkpoint = load_checkpoint(path)
    state = tensors_of(checkpoint, path)
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
    with naming_checkpoint(path):
        names, data = _known_of(checkpoint, path)
        fitting, classes = _by_name(module, fitting, names)
        check_finite(fitting, path)
        report = load_matching(module.net, fitting)
        return f"init_from {address_of(path) or path} ({origin}): {report}{classes}{_other_input(module, data, origin)}"


def _known_of(checkpoint: Mapping[str, Any], path: Path) -> tuple[list[str], Mapping[str, Any]]:
    """The classes and the data that a checkpoint of this project was trained with; nothing of another's."""
    metadata = checkpoint.get(METADATA_KEY, {})
    names = list(metadata.get("label_space", {}).get("names", ()))
    if not all(isinstance(name, str) for name in names):
        raise UserError("its classes are no texts; the file is damaged")
    return names, read_sections(metadata.get("config", {}), path).get("data", {})


def check_start(path: str | Path) -> Path:
    """The file or folder of ``init_from``, downloaded if it is an address.

    Raises:
        UserError: if there is none, with the recipe that would make it.
    """
    path = local_path(path)
    if path.exists():
        return path
    if (_RECIPES / f"{path.name}.yaml").is_file():
        first = f"train that recipe first: src.train experiment={path.name} hydra.run.dir={path}, or"
    else:
        first = "put it there (docs/recipes.md), or"
    raise UserError(
        f"init_from={path}: file or run folder not found; {first} give another as init_from=PATH; init_from=null"
        " starts without"
    )


def _readings(net: nn.Module, state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors under the names that ``net`` would know them by, for each project they may come from."""
    ours = {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}
    yield "this project", ours
    yield "this project, without its scales", {name.removeprefix("net."): tensor for name, tensor in ours.items()}
    inner = dict(net.named_children()).get("net")
    if inner is not None:  # the net inside scales
        for project, reading in _readings(inner, state):
            yield f"{project}, inside the scales", {f"net.{name}": tensor for name, tensor in reading.items()}
    yield "a plain state dict", {name.removeprefix("module."): tensor for name, tensor in state.items()}
    for source in SOURCES.values():
        if rules := source.rules.get(type(net).__name__):
            yield source.project, renamed(state, rules)


def _by_name(
    module: SegmentationModule, state: dict[str, Tensor], given: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """``state`` with the run's classes, and a line on them, if those of the checkpoint are known and others."""
    wanted = module.label_space.names if given else ()
    if tuple(given) == tuple(wanted):
        return state, ""
    own = module.net.state_dict()
    config = with_values(as_config(module.metadata["config"]), {"model.net.num_classes": len(wanted) + 1})
    with torch.device("meta"):
        axes = class_axes(own, build_net(without_download(config)).state_dict())
    if count_classes(state, axes) != len(given) or count_classes(own, axes) != len(wanted):
        return state, ""  # one logit for two classes
    pairs = same_classes(given, wanted)
    names = [wanted[place] for _, place in pairs]
    shown = [*names[:5], "..."] if len(names) > 5 else names
    listed = f" ({', '.join(shown)})" if shown else ""
    line = f"\n  classes: {len(names)} of {len(wanted)} carried over by name{listed}, the others are initialised anew"
    return carry_over(state, own, axes, pairs), line


def _other_input(module: SegmentationModule, data: Mapping[str, Any], origin: str) -> str:
    """A line where the weights were trained on images with another channel order or range than those of the run."""
    normalize, expected = module.normalize, None
    if data.get("mean"):
        expected = Statistics(tuple(data["mean"]), tuple(data["std"]), data.get("channel_order", "rgb"))
    elif source := next((each for each in SOURCES.values() if origin.startswith(each.project)), None):
        expected = source.statistics_for("")
    if expected is None:
        return ""
    ratio = normalize.std.flatten().mean() / (255 * sum(expected.std) / 3)
    if normalize.channel_order == expected.channel_order and 0.5 < ratio < 2:
        return ""
    mean, std = ([round(value, 6) for value in values] for values in (expected.mean, expected.std))
    return (
        f"\n  they expect other images: 'data.mean={mean}' 'data.std={std}' data.channel_order={expected.channel_order}"
    )
