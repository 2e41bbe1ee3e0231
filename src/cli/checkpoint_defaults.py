"""What a checkpoint was trained and scored with, as the defaults that a command line applies to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from ..build.config_values import as_plain
from ..files.project import CONFIG_DIR
from ..hub.address import is_address
from ..hub.resolve import local_path
from .overrides import quoted, value_of, without

__all__ = [
    "downloaded",
    "file_of_run",
    "mirrored_at_several_scales",
    "of_checkpoint",
    "offer",
    "own_store",
    "with_data_of_checkpoint",
]


def offer(group: str | None, name: str, node: Any, *, package: str | None = None) -> None:
    """Makes ``node`` an option of a config group (or a root config) for this process, before Hydra composes."""
    ConfigStore.instance().store(group=group, name=name, node=node, package=package)


@contextmanager
def own_store() -> Iterator[None]:
    """What is offered within the block is withdrawn at its end; Hydra copies all offers in each composition."""
    Plugins.instance()  # which store their own when they are first looked for
    store = ConfigStore.instance()
    before = _copied(store.repo)
    try:
        yield
    finally:
        store.repo = before


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(node) if isinstance(node, dict) else node for name, node in tree.items()}


def of_checkpoint(overrides: list[str], *, data_are_resized: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Offers what ``ckpt=...`` was trained with as ``inference=checkpoint`` and ``model/scales=checkpoint``.

    Args:
        overrides: of the command line.
        data_are_resized: the command resizes its data by ``data.eval_long_edge`` itself.

    Returns:
        The config it was trained with, empty without ``ckpt=``; and the overrides, a run folder replaced by its file,
        and scale 1 set to the size at which the checkpoint was scored.
    """
    saved: dict[str, Any] = {}
    overrides = file_of_run(overrides)
    if file := value_of("ckpt", overrides):
        from ..build.from_checkpoint import saved_config  # these import torch, which --help need not wait for
        from .scored_size import size_overrides

        saved = as_plain(saved_config(file), resolve=False)
        overrides = [*size_overrides(saved, overrides, data_are_resized=data_are_resized), *overrides]
    _offer_inference(saved.get("inference", {}))
    offer("model/scales", "checkpoint", saved.get("model", {}).get("scales") or {})
    return saved, overrides


def _offer_inference(saved: Mapping[str, Any]) -> None:
    """Makes the inference of a checkpoint the option ``checkpoint``, with window and refinement that can be swapped."""
    parts = ("window", "refine")
    for part in parts:
        offer(f"inference/{part}", "checkpoint", {part: saved.get(part)}, package="inference")
    rest = {name: value for name, value in saved.items() if name not in parts}
    offer("inference", "checkpoint", {"defaults": [*({part: "checkpoint"} for part in parts), "_self_"], **rest})


def with_data_of_checkpoint(overrides: list[str], *, data_are_resized: bool = False) -> list[str]:
    """As ``of_checkpoint``, and offers the data of ``ckpt=...`` as ``data=checkpoint``; returns the overrides."""
    saved, overrides = of_checkpoint(overrides, data_are_resized=data_are_resized)
    offer("data", "checkpoint", saved.get("data", {}))
    return overrides


def mirrored_at_several_scales(overrides: list[str]) -> list[str]:
    """As ``of_checkpoint``, but at several scales and mirrored, unless the net has scales of its own."""
    saved, overrides = of_checkpoint(overrides)
    if value_of("inference", overrides) is None and not saved.get("model", {}).get("scales"):
        several = as_plain(OmegaConf.load(CONFIG_DIR / "inference/multiscale.yaml"))
        overrides = [f"++inference.{name}={several[name]}".lower() for name in ("scales", "flip")] + overrides
    return overrides


def downloaded(overrides: list[str]) -> list[str]:
    """The overrides with a path in place of an address in ``ckpt=``; what is missing there is downloaded."""
    ckpt = value_of("ckpt", overrides)
    if ckpt is None or not is_address(ckpt):
        return overrides
    return [*without("ckpt", overrides), quoted("ckpt", local_path(ckpt))]


def file_of_run(overrides: list[str]) -> list[str]:
    """The overrides with the checkpoint of a run folder in place of the folder."""
    ckpt = value_of("ckpt", overrides)
    if not ckpt:
        return overrides
    from ..build.from_checkpoint import checkpoint_file  # imports torch, which --help need not wait for

    return [*without("ckpt", overrides), quoted("ckpt", checkpoint_file(ckpt))]
