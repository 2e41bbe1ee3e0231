"""Export a checkpoint: ``python -m src.export ckpt=PATH [out=FILE] [format=onnx|pt2|bundle]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import exporting
from ..build.config_values import as_plain
from ..build.from_checkpoint import saved_config
from ..checkpoints.bundle import ZIP_SUFFIX
from ..cli.scored_size import scored_size
from ..errors import UserError
from ..files.atomic import whole_file
from ..files.output_paths import check_output_file
from ..files.project import as_called
from ..hub.resolve import origin
from ..prediction.output_record import writing
from ..reports import console
from .checkpoint import load


def export(cfg: DictConfig) -> Path:
    """Writes ``cfg.out`` and returns it, if what was written does what the net does."""
    if cfg.format == "bundle":
        return _bundle(cfg)
    out = Path(cfg.out or _beside(cfg.ckpt, f".{cfg.format}"))
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
        where, images = exporting.images_at_hand(cfg.ckpt, source=cfg.source, count=cfg.check_images)
        if not images:
            where, images = exporting.generated(cfg.check_images)
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


def _beside(ckpt: str, suffix: str) -> Path:
    """The path of a checkpoint, or of a bundle, with another ending; here, if it was downloaded into a cache."""
    path, address = Path(ckpt), origin(Path(ckpt))
    if address is not None:
        path = Path(re.split("[@#?]", address)[0].rpartition("/")[2])
    if path.name.lower().endswith(ZIP_SUFFIX):
        return path.with_name(path.name[: -len(ZIP_SUFFIX)] + suffix)
    return path.with_name(path.name + suffix) if path.is_dir() else path.with_suffix(suffix)


def _bundle(cfg: DictConfig) -> Path:
    out = Path(cfg.out or _beside(cfg.ckpt, ZIP_SUFFIX))
    console.quiet()
    saved = saved_config(cfg.ckpt)
    with writing(out):
        exporting.write_bundle(
            cfg.ckpt,
            out,
            inference=_other_inference(saved, cfg),
            scales=_other_scales(saved, cfg),
            licence=cfg.licence,
            source=cfg.source,
            picture=cfg.picture,
        )
    files = sorted(out.rglob("*")) if out.is_dir() else [out]
    size = sum(file.stat().st_size for file in files) / 2**20
    console.say(
        f"{out}: {size:.1f} MiB, a bundle; read back, its scores are the checkpoint's to the last bit\n"
        + as_called(f"next: python -m src.predict ckpt={out} source=...")
    )
    return out


def _other_inference(saved: DictConfig, cfg: DictConfig) -> dict[str, Any] | None:
    """The inference of the command line; ``None`` where it is the checkpoint's.

    A command that resizes no data itself takes the size of the score into its inference (``cli.scored_size``); a
    bundle says where it was trained instead, as the checkpoint does.
    """
    before = {"window": None, "refine": None, **as_plain(saved.inference)}
    chosen = as_plain(cfg.inference)
    for name, value in scored_size(before, saved.data.get("eval_long_edge")).items():
        if chosen.get(name) == value and name not in before:
            del chosen[name]
        elif chosen.get(name) == value:
            chosen[name] = before[name]
    return None if chosen == before else chosen


def _other_scales(saved: DictConfig, cfg: DictConfig) -> dict[str, Any] | None:
    """The scales of the command line; ``None`` where they are the checkpoint's."""
    before, chosen = (as_plain(config.model.get("scales")) or {} for config in (saved, cfg))
    if chosen == before:
        return None
    if not before or chosen.get("_target_") != before.get("_target_"):
        raise UserError(
            "model/scales: a bundle has the kind of scales that its checkpoint was trained with; choose another where"
            " the bundle is applied"
        )
    return chosen
