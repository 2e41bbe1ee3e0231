"""Segment images, videos and maps: ``python -m src.predict ckpt=PATH source=IMAGE|FOLDER|GLOB|LIST|VIDEO|CAMERA``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from src import prediction
from src.build import from_checkpoint
from src.cli.scored_size import say_difference
from src.errors import UserError, nearest
from src.files.atomic import locked, sha256
from src.files.images import choose_device, find_images, left_out, output_names
from src.models import ExplicitAttention, HierarchicalAttention
from src.prediction import IMAGE_KINDS, VIDEO_KINDS, Label, without_earlier_pictures
from src.reports import console
from src.training.module import SegmentationModule


def predict(cfg: DictConfig) -> int:
    """Writes what ``save`` asks for of every image or frame that is not finished in ``out``; returns how many were.

    Broken files are listed at the end.
    """
    console.quiet()
    source = str(cfg.source)
    video = prediction.video_source(source)
    kinds = _kinds(cfg.save, video is not None)
    out = Path(cfg.out)
    base, names = _names(source, out) if video is None else (Path(source).parent, {})
    if isinstance(video, Path):
        with prediction.Capture(video):  # what cannot be opened is told before anything is written
            pass
    device = choose_device(cfg.device)
    module = from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    ).to(device)
    say_difference(cfg)
    attention = _attention(module) if "attention" in kinds else None
    space = module.label_space
    pictures = prediction.Pictures(kinds, space, cfg.alpha, getattr(module.net, "scales", ()), attention)
    label = _label(module, with_confidence="confidence" in kinds)
    batch_size = cfg.batch_size or (1 if device == "cpu" else 4)
    with locked(out, "writing to it"):
        folder = prediction.OutputFolder(out, _made_with(cfg, base) | {"classes": list(space.names)})
        areas = prediction.Areas(out / prediction.AREAS, space.names) if "area" in kinds else None
        run = prediction.Run(label, pictures, folder, areas, batch_size=batch_size)
        if video is not None:
            frames, line = run.video(video, frames=cfg.frames)
            console.say(f"{line}: {cfg.out}")
            return frames
        blocks = prediction.Blocks(cfg.huge.block, cfg.huge.margin)
        done, broken = run.images(names, huge_from=cfg.huge.pixels, blocks=blocks, refused=_why_no_blocks(cfg))
    earlier = len(names) - done - len(broken)
    console.say(f"{done} of {len(names)} images segmented{f', {earlier} were before' if earlier else ''}: {cfg.out}")
    if broken:
        raise UserError(left_out(broken))
    return done


def _kinds(save: Any, video: bool) -> tuple[str, ...]:
    known = VIDEO_KINDS if video else IMAGE_KINDS
    default = ["overlay"] if video else ["index", "color", "overlay"]
    kinds = default if save is None else [save] if isinstance(save, str) else list(save)
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or not kinds:
        what = "takes of a video" if video else "takes"
        hint = nearest(str(unknown[0]), known) if unknown else ""
        raise UserError(f"save={unknown or kinds} is not among what it {what}: {', '.join(known)}.{hint}")
    return tuple(kinds)


def _why_no_blocks(cfg: DictConfig) -> str | None:
    """Why no image can be segmented by blocks, if so: each would be brought to the size that is meant for an image."""
    side = next((side for side in ("short_side", "long_side") if cfg.inference.get(side)), None)
    return side and (
        f"has more than huge.pixels={cfg.huge.pixels} and is segmented by blocks, to which inference.{side}="
        f"{cfg.inference[side]} cannot apply; set inference.{side}=null 'inference.scales=[0.5]' with the factor that"
        " suits, or raise huge.pixels="
    )


def _names(source: str, out: Path) -> tuple[Path, dict[Path, Path]]:
    """The images of a source and the names of their pictures; those of earlier predictions are no images."""
    base, found = find_images(source)
    images = without_earlier_pictures(found, out, None if Path(source).is_file() else base)
    if not images:
        raise UserError(f"source={source}: holds nothing but pictures of earlier predictions; name a folder of images")
    if len(images) < len(found):
        console.say(f"{len(found) - len(images)} pictures of earlier predictions are left out")
    return base, output_names(base, images)


def _made_with(cfg: DictConfig, base: Path) -> dict[str, Any]:
    """Everything that pictures depend on besides the image, as plain containers."""
    chosen = {key: cfg[key] for key in ("inference", "output_stride", "alpha", "frames", "huge")}
    chosen["model.scales"] = cfg.model.get("scales") or {}
    plain = {key: OmegaConf.to_container(OmegaConf.create({"it": each}))["it"] for key, each in chosen.items()}
    return {"ckpt": sha256(cfg.ckpt), **plain, "source": str(base.resolve())}


def _label(module: SegmentationModule, *, with_confidence: bool) -> Label:
    """The module as a function of arrays."""

    @torch.inference_mode()
    def label(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        batch = torch.from_numpy(images).to(module.device).permute(0, 3, 1, 2)
        if not with_confidence:
            return module.predict_label(batch).cpu().numpy(), None
        labels, confidences = module.label_and_confidence(batch)
        return labels.cpu().numpy(), confidences.cpu().numpy()

    return label


def _attention(module: SegmentationModule) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The maps of a net with attention over scales, as a function of one image."""
    if not isinstance(module.net, HierarchicalAttention | ExplicitAttention):
        raise UserError(
            "save=attention: the net of this checkpoint has no attention over scales; take it out of save=, or train"
            " with model/scales=hierarchical or explicit"
        )

    @torch.inference_mode()
    def attention(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = torch.from_numpy(image).to(module.device).permute(2, 0, 1)[None]
        outputs = module.net.decode(module.inference.seen(module.normalize(batch)))
        return outputs["attention"][0].float().cpu().numpy(), outputs["weights"][0].float().cpu().numpy()

    return attention
