"""What each command settles before Hydra composes: the root config, and the overrides with what a checkpoint says."""

from __future__ import annotations

from collections.abc import Callable

from . import resume, sweep_line
from .checkpoint_defaults import (
    downloaded,
    file_of_run,
    mirrored_at_several_scales,
    of_checkpoint,
    offer,
    with_data_of_checkpoint,
)
from .overrides import sets_any

__all__ = ["PREPARE", "Prepare", "autolabel", "benchmark", "convert", "evaluate", "export", "predict", "push", "submit"]

Prepare = Callable[[list[str]], tuple[str, list[str]]]
"""Overrides -> root config and overrides."""

_STATISTICS = ("data.mean", "data.std", "data.channel_order")
_PROTOCOL = ("inference", "model.scales", "model/scales")


def predict(overrides: list[str]) -> tuple[str, list[str]]:
    """Makes the inference and the scales around the net of ``ckpt=...`` the defaults that overrides apply to."""
    return "predict", of_checkpoint(overrides)[1]


def export(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``predict``."""
    return "export", of_checkpoint(overrides)[1]


def evaluate(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``predict``, and the data of ``ckpt=...`` is the default too."""
    return "evaluate", with_data_of_checkpoint(overrides, data_are_resized=True)


def submit(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``predict``, and the data of ``ckpt=...`` is the default too."""
    return "submit", with_data_of_checkpoint(overrides)


def autolabel(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``predict``, but at several scales and mirrored, unless the net has scales of its own."""
    return "autolabel", mirrored_at_several_scales(overrides)


def benchmark(overrides: list[str]) -> tuple[str, list[str]]:
    """Takes a run folder for its checkpoint."""
    return "benchmark", file_of_run(overrides)


def convert(overrides: list[str]) -> tuple[str, list[str]]:
    """Statistics and protocol that the command line gives replace those of the project."""
    offer("data", "auto", {"name": "auto", "num_classes": None})
    offer("model", "unset", {"name": "unset"})
    parts = {"statistics": _STATISTICS, "protocol": _PROTOCOL}
    given = (f"{part}=given" for part, names in parts.items() if sets_any(names, overrides))
    return "convert", [*given, *downloaded(overrides)]


def push(overrides: list[str]) -> tuple[str, list[str]]:
    """Downloads the model of an address in ``ckpt=``, so that it can be copied to another repository."""
    return "push", downloaded(overrides)


PREPARE: dict[str, Prepare] = {
    "train": resume.prepare,
    "sweep": sweep_line.prepare,
    **{each.__name__: each for each in (predict, export, evaluate, submit, autolabel, benchmark, convert, push)},
}
