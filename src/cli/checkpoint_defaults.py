"""What a checkpoint was trained and scored with, as the defaults that a command line applies to."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from src.cli.offers import offer, offer_inference
from src.cli.overrides import quoted, value_of, without
from src.files.project import CONFIG_DIR

__all__ = ["file_of_run", "mirrored_at_several_scales", "of_checkpoint", "with_data_of_checkpoint"]


def of_checkpoint(overrides: list[str], *, data_are_resized: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Offers what ``ckpt=...`` was trained with as ``inference=checkpoint`` and ``model/scales=checkpoint``.

    Args:
        overrides: of the command line.
        data_are_resized: the command resizes its data by ``data.eval_long_edge`` itself.

    Returns:
        The config it was trained with, empty without ``ckpt=``; and the overrides, a run folder replaced by its file,
        and scale 1 set to the size at which the checkpoint was scored.
    """
    ckpt, saved = value_of("ckpt", overrides), {}
    if ckpt:
        from src.build.from_checkpoint import checkpoint_file, saved_config
        from src.cli.scored_size import size_overrides  # imports torch, which --help need not wait for

        file = checkpoint_file(ckpt)
        saved = OmegaConf.to_container(saved_config(file), resolve=False)
        overrides = [*without("ckpt", overrides), quoted("ckpt", file)]
        overrides = [*size_overrides(saved, overrides, data_are_resized=data_are_resized), *overrides]
    offer_inference(saved.get("inference", {}))
    offer("model/scales", "checkpoint", saved.get("model", {}).get("scales") or {})
    return saved, overrides


def with_data_of_checkpoint(overrides: list[str], *, data_are_resized: bool = False) -> list[str]:
    """As ``of_checkpoint``, and offers the data of ``ckpt=...`` as ``data=checkpoint``; returns the overrides."""
    saved, overrides = of_checkpoint(overrides, data_are_resized=data_are_resized)
    offer("data", "checkpoint", saved.get("data", {}))
    return overrides


def mirrored_at_several_scales(overrides: list[str]) -> list[str]:
    """As ``of_checkpoint``, but at several scales and mirrored, unless the net has scales of its own."""
    saved, overrides = of_checkpoint(overrides)
    if value_of("inference", overrides) is None and not saved.get("model", {}).get("scales"):
        several = OmegaConf.load(CONFIG_DIR / "inference/multiscale.yaml")
        overrides = [f"++inference.{name}={several[name]}".lower() for name in ("scales", "flip")] + overrides
    return overrides


def file_of_run(overrides: list[str]) -> list[str]:
    """The overrides with the checkpoint of a run folder in place of the folder."""
    if ckpt := value_of("ckpt", overrides):
        from src.build.from_checkpoint import checkpoint_file  # imports torch, which --help need not wait for

        overrides = [*without("ckpt", overrides), quoted("ckpt", checkpoint_file(ckpt))]
    return overrides
