"""One file for deployment out of a checkpoint: ``python -m src.export ckpt=PATH [out=FILE] [format=onnx|pt2]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from .. import exporting
from ..build import allowed
from ..build.from_checkpoint import saved_config
from ..build.instantiate import instantiate
from ..data.decoding import read_image
from ..data.sets.toy_streets import ToyStreets
from ..errors import UserError
from ..files.atomic import whole_file
from ..files.images import find_images
from ..files.output_paths import check_output_file
from ..prediction.output_record import writing
from ..reports import console
from .checkpoint import load


def export(cfg: DictConfig) -> Path:
    """Writes ``cfg.out`` and returns it, if the file does what the net does."""
    out = Path(cfg.out or Path(cfg.ckpt).with_suffix(f".{cfg.format}"))
    check_output_file(out, suffix=f".{cfg.format}", inputs=[cfg.ckpt])
    exporting.require(cfg.format)
    console.quiet()
    module = load(cfg, precision={"fp32": "32-true", "fp16": "16-true"}[cfg.precision])
    how = {"output": cfg.output, "layout": cfg.layout}
    deployed = exporting.Deployed(module.net, module.normalize, module.inference, precision=cfg.precision, **how)
    console.say("tracing the net, which takes a minute for a large one")
    traced = exporting.trace(deployed, size=cfg.size, batch=cfg.batch)
    space = module.label_space.to_dict()
    classes = {"names": space["names"], "colors": space["colors"]}
    metadata = exporting.metadata(deployed, traced, checkpoint=Path(cfg.ckpt), applied=_applied(cfg), **classes)
    with writing(out), whole_file(out) as partial:
        outputs = exporting.OUTPUTS[cfg.output]
        exporting.write(traced.program, partial, file_format=cfg.format, outputs=outputs, metadata=metadata)
        where, images = _images(cfg)
        batches = list(exporting.batches_of(images, traced))
        run = exporting.runner(partial, file_format=cfg.format)
        found = exporting.compare(run, module.scores, batches, **how)
        found.check(cfg.min_agreement, precision=cfg.precision)
    sizes = ", ".join(dict.fromkeys(f"{height}x{width}" for _, height, width, _ in (each.shape for each in batches)))
    console.say(exporting.summary(out, deployed, traced, found, f"{where}, {sizes}"))
    return out


def _applied(cfg: DictConfig) -> dict[str, Any]:
    """How the net was trained, and how the file applies it."""
    saved = saved_config(cfg.ckpt)
    resizes_itself = cfg.inference.get("short_side") or cfg.inference.get("long_side")
    return {
        "trained_on": saved.data.get("name"),
        "model": saved.model.get("name"),
        "resize_before": None if resizes_itself else saved.data.get("eval_long_edge"),
        "inference": OmegaConf.to_container(cfg.inference, resolve=True),
        "scales_of_net": OmegaConf.to_container(cfg.model.get("scales") or OmegaConf.create({}), resolve=True),
        "output_stride": cfg.output_stride,
    }


def _images(cfg: DictConfig) -> tuple[str, list[np.ndarray]]:
    """What the file is checked on, in words and as (H,W,3) uint8 RGB."""
    count = cfg.check_images
    if cfg.source is not None:
        paths = find_images(str(cfg.source))[1][:count]
        return f"{len(paths)} images of {cfg.source}", [read_image(path) for path in paths]
    data = saved_config(cfg.ckpt).data
    try:
        source = instantiate(data.dataset, allowed.DATA)(split=data.splits["val"][0])
        images = [source.read(index)[0] for index in range(min(count, len(source)))]
        return f"{len(images)} validation images of {data.name}", images
    except (UserError, OSError, KeyError, TypeError):  # the data lie elsewhere, or nowhere
        source = ToyStreets(split="val", length=count, height=256, width=512)
        return f"{count} generated streets", [source.read(index)[0] for index in range(count)]
