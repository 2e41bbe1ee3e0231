"""Configs as plain containers, and copies of configs with other values: no function changes a config it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

__all__ = ["as_config", "as_plain", "with_values"]


def as_config(plain: Mapping[str, Any]) -> DictConfig:
    """Plain containers as a config."""
    return OmegaConf.create(dict(plain))


def as_plain(node: Any, *, resolve: bool = True, throw_on_missing: bool = False) -> Any:
    """A node of a config as plain containers, anything else as it is.

    Args:
        node: config, or value in one.
        resolve: whether references such as ``${data.root}`` are replaced by what they refer to.
        throw_on_missing: whether a value that has to be given, ``???``, is an error.
    """
    if not OmegaConf.is_config(node):
        return node
    return OmegaConf.to_container(node, resolve=resolve, throw_on_missing=throw_on_missing)


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of ``cfg`` in which the options named, such as ``data.num_classes``, have other values or are added."""
    cfg = cfg.copy()
    for name, value in values.items():
        OmegaConf.update(cfg, name, value, merge=False, force_add=True)
    return cfg
