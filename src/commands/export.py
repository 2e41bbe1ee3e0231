"""One file for deployment out of a checkpoint: ``python -m src.export ckpt=PATH [out=FILE] [format=onnx|pt2]``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from omegaconf import DictConfig, OmegaConf

from src import exporting
from src.build import allowed, from_checkpoint
from src.build.from_checkpoint import saved_config
from src.build.instantiate import instantiate
from src.cli.scored_size import say_difference
from src.data.decoding import read_image
from src.data.sets.toy_streets import ToyStreets
from src.errors import UserError
from src.exporting import Agreement, Traced
from src.files.atomic import sha256, whole_file
from src.files.images import find_images
from src.files.output_paths import check_output_file
from src.prediction.output_record import writing
from src.reports import console
from src.runtime.environment import environment
from src.training.module import SegmentationModule

_LONGEST = 1024  # side of an image that the file is checked on, where it takes any size


def export(cfg: DictConfig) -> Path:
    """Writes ``cfg.out`` and returns it, if the file does what the net does."""
    out = Path(cfg.out or Path(cfg.ckpt).with_suffix(f".{cfg.format}"))
    check_output_file(out, suffix=f".{cfg.format}", inputs=[cfg.ckpt])
    exporting.require(cfg.format)
    console.quiet()
    module = from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    )
    say_difference(cfg, precision={"fp32": "32-true", "fp16": "16-true"}[cfg.precision])
    how = {"output": cfg.output, "layout": cfg.layout}
    deployed = exporting.Deployed(module.net, module.normalize, module.inference, precision=cfg.precision, **how)
    console.say("tracing the net, which takes a minute for a large one")
    traced = exporting.trace(deployed, size=cfg.size, batch=cfg.batch)
    with writing(out), whole_file(out) as partial:
        exporting.write(
            traced.program,
            partial,
            file_format=cfg.format,
            outputs=exporting.OUTPUTS[cfg.output],
            metadata=_metadata(cfg, module, traced),
        )
        where, images = _images(cfg)
        batches = list(_batches(images, traced, cfg.batch))
        run = exporting.runner(partial, file_format=cfg.format)
        found = exporting.compare(run, module.scores, batches, **how)
        _gate(cfg, found)
    console.say(_summary(cfg, out, traced, found, f"{where}, {_sizes(batches)}"))
    return out


def _metadata(cfg: DictConfig, module: SegmentationModule, traced: Traced) -> dict[str, str]:
    """JSON by name: what a user of the file must know."""
    saved, surroundings = saved_config(cfg.ckpt), environment()
    sized = cfg.inference.get("short_side") or cfg.inference.get("long_side")  # then the graph resizes by itself
    protocol = {
        "trained_on": saved.data.get("name"),
        "model": saved.model.get("name"),
        "resize_before": None if sized else saved.data.get("eval_long_edge"),
        "inference": OmegaConf.to_container(cfg.inference, resolve=True),
        "scales_of_net": OmegaConf.to_container(cfg.model.get("scales") or OmegaConf.create({}), resolve=True),
        "output_stride": cfg.output_stride,
        "checkpoint": {"name": Path(cfg.ckpt).name, "sha256": sha256(Path(cfg.ckpt))},
        "versions": {"torch": surroundings["packages"]["torch"], "commit": surroundings["commit"]},
        "date": surroundings["time"],
    }
    image = {"layout": cfg.layout, "order": "rgb", "dtype": "uint8", "sizes": traced.sizes, "batch": cfg.batch or "any"}
    space = module.label_space.to_dict()
    values = {
        "class_names": space["names"],
        "class_colors": space["colors"],
        "input": image,
        "output": cfg.output,
        "precision": cfg.precision,
        "protocol": protocol,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


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


def _batches(images: list[np.ndarray], traced: Traced, batch: int | None) -> Iterator[np.ndarray]:
    """(B,H,W,3) uint8: images one by one, and where sizes or batches are free at another size, two at once."""
    height, width = images[0].shape[:2]
    scale = min(1, _LONGEST / max(height, width))
    sizes = [traced.fitting(round(scale * height), round(scale * width))]
    if not traced.size:
        sizes.append(traced.fitting(round(0.7 * scale * height) | 1, round(0.6 * scale * width) | 1))
    for number, (height, width) in enumerate(sizes):
        resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
        together = batch or 1 + number
        resized += resized[:1] * (-len(resized) % together)
        for start in range(0, len(resized), together):
            yield np.stack(resized[start : start + together])


def _sizes(batches: list[np.ndarray]) -> str:
    return ", ".join(dict.fromkeys("x".join(map(str, batch.shape[1:3])) for batch in batches))


def _gate(cfg: DictConfig, found: Agreement) -> None:
    if not found.share >= cfg.min_agreement:
        remedy = "try precision=fp32, or" if cfg.precision != "fp32" else "try another format=, or"
        raise UserError(
            f"the exported file gives another class than the net on {100 * (1 - found.share):.3g} % of"
            f" {found.pixels:,} pixels (largest difference of {found.measure} {found.difference:.3g}), more than"
            f" min_agreement={cfg.min_agreement} allows, and was deleted; {remedy} lower min_agreement="
        )


def _summary(cfg: DictConfig, out: Path, traced: Traced, found: Agreement, where: str) -> str:
    size = "(B,3,H,W)" if cfg.layout == "nchw" else "(B,H,W,3)"
    outputs = {"label": "label (B,H,W) uint8", "scores": "scores (B,K,H,W) float32"}
    both = "label and confidence, (B,H,W) uint8 each"
    lines = [
        f"{out}: {out.stat().st_size / 2**20:.1f} MiB, {_kind(cfg, out)}, {cfg.precision}",
        f"in:    image {size} uint8 RGB, {traced.sizes}, batch {cfg.batch or 'any'}",
        f"out:   {outputs.get(cfg.output, both)}",
        f"check: same class as the net on {100 * found.share:.4f} % of {found.pixels:,} pixels ({where}); largest"
        f" difference of {found.measure} {found.difference:.2g}",
        "",
    ]
    if cfg.format == "onnx":
        lines += [
            "import onnxruntime",
            f"net = onnxruntime.InferenceSession({str(out)!r}, providers={exporting.providers()})",
        ]
        return "\n".join([*lines, 'outputs = net.run(None, {"image": image})  # numpy, uint8'])
    lines += ["import torch", f"net = torch.export.load({str(out)!r}).module()"]
    return "\n".join([*lines, "outputs = net(image)  # torch, uint8"])


def _kind(cfg: DictConfig, out: Path) -> str:
    if cfg.format == "pt2":
        return "torch.export"
    opset: Any = next(each for each in onnx.load(out).opset_import if not each.domain)
    return f"ONNX opset {opset.version}"
