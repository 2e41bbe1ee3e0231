"""Segment images, videos and maps: ``python -m src.predict ckpt=PATH source=IMAGE|FOLDER|GLOB|LIST|VIDEO|CAMERA``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from ..errors import UserError
from ..files.atomic import locked
from ..files.images import left_out
from ..models import ExplicitAttention, HierarchicalAttention
from ..prediction.large_images import Blocks
from ..prediction.output_folder import OutputFolder, names_of
from ..prediction.outputs import AREAS, Areas, Maps, Pictures, Task, chosen_kinds
from ..prediction.run import Run
from ..prediction.video_files import Capture, video_source
from ..reports import console
from ..runtime.environment import choose_device
from ..training.module import SegmentationModule
from .checkpoint import as_label, load, made_with


def predict(cfg: DictConfig) -> int:
    """Writes what ``save`` asks for of every image or frame that is not finished in ``out``; returns how many were.

    Raises:
        UserError: at the end, listing the files that could not be segmented.
    """
    console.quiet()
    source, out = str(cfg.source), Path(cfg.out)
    video = video_source(source)
    kinds = chosen_kinds(cfg.save, video=video is not None)
    base, names = names_of(source, out) if video is None else (Path(source).parent, {})
    if isinstance(video, Path):
        with Capture(video):  # a video that cannot be opened ends the command before anything is written
            pass
    device = choose_device(cfg.device)
    module = load(cfg, device=device)
    space = module.label_space
    attention, scales = _attention(module) if "attention" in kinds else (None, ())
    pictures = Pictures(kinds, space, cfg.alpha, scales, attention)
    settings = made_with(cfg, "alpha", "frames", "huge", source=str(base.resolve()), classes=list(space.names))
    with locked(out, "writing to it"):
        folder = OutputFolder(out, settings)
        areas = Areas(out / AREAS, space.names) if "area" in kinds else None
        label = as_label(module, with_confidence="confidence" in kinds)
        run = Run(Task(label, pictures, areas, cfg.batch_size or (1 if device == "cpu" else 4)), folder)
        if video is not None:
            frames, line = run.video(video, frames=cfg.frames)
            console.say(f"{line}: {cfg.out}")
            return frames
        blocks = Blocks(cfg.huge.block, cfg.huge.margin)
        done, broken = run.images(names, huge_from=cfg.huge.pixels, blocks=blocks, refused=_why_no_blocks(cfg))
    earlier = len(names) - done - len(broken)
    console.say(f"{done} of {len(names)} images segmented{f', {earlier} were before' if earlier else ''}: {cfg.out}")
    if broken:
        raise UserError(left_out(broken))
    return done


def _why_no_blocks(cfg: DictConfig) -> str | None:
    """Why no image can be segmented by blocks, if so: each would be resized to the size that is meant for an image."""
    for side in ("short_side", "long_side"):
        if value := cfg.inference.get(side):
            return (
                f"has more than huge.pixels={cfg.huge.pixels} and is segmented by blocks, to which inference.{side}="
                f"{value} cannot apply; set inference.{side}=null 'inference.scales=[0.5]' with the factor that suits,"
                " or raise huge.pixels="
            )
    return None


def _attention(module: SegmentationModule) -> tuple[Callable[[np.ndarray], Maps], tuple[float, ...]]:
    """The maps of a net with attention over scales, as a function of one image; and its scales."""
    net = module.net
    if not isinstance(net, HierarchicalAttention | ExplicitAttention):
        raise UserError(
            "save=attention: the net of this checkpoint has no attention over scales; take it out of save=, or train"
            " with model/scales=hierarchical or explicit"
        )

    @torch.inference_mode()
    def attention(image: np.ndarray) -> Maps:
        batch = torch.from_numpy(image).to(module.device).permute(2, 0, 1)[None]
        outputs = net.decode(module.inference.seen(module.normalize(batch)))
        return outputs["attention"][0].float().cpu().numpy(), outputs["weights"][0].float().cpu().numpy()

    return attention, net.scales
