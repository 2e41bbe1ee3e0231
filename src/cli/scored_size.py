"""The rules a checkpoint was scored with, and where a command applies other ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..build.config_values import as_plain
from ..build.from_checkpoint import saved_config
from ..inference import Inference
from ..schema.words import written
from .overrides import name_of, quoted

__all__ = ["difference", "say_difference", "scored_size", "size_overrides"]

_SIDES = ("short_side", "long_side")
_DEFAULTS = {  # of options that checkpoints of before they were there do not name
    name: list(option.default) if isinstance(option.default, tuple) else option.default
    for name, option in inspect.signature(Inference).parameters.items()
}


def size_overrides(saved: Mapping[str, Any], overrides: Sequence[str], *, data_are_resized: bool = False) -> list[str]:
    """Overrides that make scale 1 the size at which a checkpoint was scored, whatever ``inference=`` is chosen.

    Args:
        saved: the config it was trained with, as plain containers.
        overrides: of the command line; a side given there is the user's choice and ends the matter.
        data_are_resized: the command resizes its data by ``data.eval_long_edge`` itself.
    """
    given = set(map(name_of, overrides))
    if given & {f"inference.{side}" for side in _SIDES}:
        return []
    inference, edge = saved.get("inference", {}), saved.get("data", {}).get("eval_long_edge")
    sides = scored_size(inference, None if data_are_resized else edge)
    wanted = {f"inference.{name}": value for name, value in sides.items()}
    return [
        f"++{name}={value}" if isinstance(value, int) or value == "area" else quoted(f"++{name}", value)
        for name, value in wanted.items()
        if name not in given
    ]


def say_difference(cfg: DictConfig, **options: Any) -> None:
    """Prints ``difference`` of the checkpoint ``cfg.ckpt``, where there is one."""
    if line := difference(saved_config(cfg.ckpt), cfg, **options):
        print(line, flush=True)


def difference(
    saved: DictConfig, cfg: DictConfig, *, data_are_resized: bool = False, precision: str = "32-true"
) -> str | None:
    """One line that names every rule by which command and scoring of the checkpoint differ; ``None`` for none.

    Args:
        saved: the config the checkpoint was trained with.
        cfg: of the command: ``inference``, ``model.scales``, ``output_stride``, and ``trainer`` where it has one.
        data_are_resized: the command resizes its data by ``data.eval_long_edge`` itself.
        precision: of a command without ``trainer.precision``.
    """
    edge = OmegaConf.select(cfg, "data.eval_long_edge") if data_are_resized else None
    before = _rules(saved, OmegaConf.select(saved, "data.eval_long_edge"), precision)
    now = _rules(cfg, edge, precision)
    if not cfg.get("output_stride"):
        before.pop("output_stride", None)  # as it was trained
    _split_groups(before, now)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return None
    first, second = (", ".join(f"{name}={_written(rules.get(name))}" for name in names) for rules in (before, now))
    return f"note: the checkpoint was scored with {first}; applied here: {second}"


def _split_groups(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Replaces a group, such as a window, by its single options where both sides have the same kind of it."""
    for name in [name for name, value in before.items() if isinstance(value, Mapping)]:
        if isinstance(now.get(name), Mapping) and before[name].get("_target_") == now[name].get("_target_"):
            for rules in (before, now):
                rules.update({f"{name}.{option}": value for option, value in rules.pop(name).items()})


def _rules(cfg: DictConfig, edge: int | None, precision: str) -> dict[str, Any]:
    """Option -> value, of everything besides weights and image that a prediction depends on; nulls left out."""
    inference = _DEFAULTS | (as_plain(cfg.get("inference")) or {})
    size = scored_size(inference, edge)
    rules = {f"inference.{name}": value for name, value in (inference | {"resample": None} | size).items()}
    if any(inference[side] for side in _SIDES):
        rules["data.eval_long_edge"] = edge
    if inference["refine"]:
        rules["inference.refine at"] = f"a longer side of {edge}" if edge else "the image's own size"
    rules["model.scales"] = as_plain(OmegaConf.select(cfg, "model.scales")) or None
    rules["output_stride"] = cfg.get("output_stride") or OmegaConf.select(cfg, "model.net.backbone.output_stride")
    rules["trainer.precision"] = str(OmegaConf.select(cfg, "trainer.precision", default=precision))
    return {name: value for name, value in rules.items() if value is not None}


def scored_size(inference: Mapping[str, Any], edge: int | None) -> dict[str, Any]:
    """The options of scale 1: those of ``inference``, or where it has none the size of data resized to ``edge``."""
    sides = {side: inference[side] for side in _SIDES if inference.get(side)}
    if sides:
        return sides | {"resample": inference.get("resample", "bilinear")}
    return {"long_side": edge, "resample": "area"} if edge else {}


def _written(value: Any) -> str:
    """``value`` as it is typed on the command line, without the class that a mapping names."""
    if isinstance(value, Mapping):
        value = {name: each for name, each in value.items() if name != "_target_"}
    return written(value)
