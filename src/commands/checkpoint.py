"""What commands that apply a checkpoint share: its module, and what their outputs were made with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from ..build import from_checkpoint
from ..build.config_values import as_plain
from ..checkpoints.bundle import identity
from ..cli.scored_size import say_difference
from ..prediction.outputs import Label
from ..training.module import SegmentationModule

__all__ = ["as_label", "load", "made_with"]


def load(cfg: DictConfig, *, device: str = "cpu", **options: Any) -> SegmentationModule:
    """The module of ``cfg.ckpt`` as the command applies it; prints what differs from how it was scored.

    Args:
        cfg: of the command: ``ckpt``, ``inference``, ``model``, ``output_stride``.
        device: where the module goes.
        options: of ``say_difference``.
    """
    module = from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    )
    say_difference(cfg, **options)
    return module.to(device)


def made_with(cfg: DictConfig, *names: str, **more: Any) -> dict[str, Any]:
    """Everything that outputs depend on besides the image, so that two kinds of output never mix in a folder.

    Args:
        cfg: of the command.
        names: options of the command that outputs depend on, besides weights, inference and scales.
        more: further values.
    """
    chosen = {name: as_plain(cfg[name], resolve=False) for name in ("inference", "output_stride", *names)}
    scales = as_plain(cfg.model.get("scales"), resolve=False) or {}
    return {"ckpt": identity(cfg.ckpt), **chosen, "model.scales": scales, **more}


def as_label(module: SegmentationModule, *, with_confidence: bool = False) -> Label:
    """The module as a function of arrays."""

    @torch.inference_mode()
    def label(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        batch = torch.from_numpy(images).to(module.device).permute(0, 3, 1, 2)
        if not with_confidence:
            return module.predict_label(batch).cpu().numpy(), None
        labels, confidences = module.label_and_confidence(batch)
        return labels.cpu().numpy(), confidences.cpu().numpy()

    return label
