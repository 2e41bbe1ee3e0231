"""Segment images: ``python -m src.predict ckpt=PATH source=<image|folder|glob>``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from src.cli import command, offer, value_of
from src.errors import UserError
from src.image_files import AHEAD, choose_device, find_images, output_names, read_ahead

if TYPE_CHECKING:
    import numpy as np

KINDS = ("index", "color", "overlay")


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Makes the inference and the scales around the net of ``ckpt=...`` the defaults that overrides apply to."""
    ckpt = value_of("ckpt", overrides)
    saved = {}
    if ckpt:
        from src.restore import saved_config  # imports torch, which --help need not wait for

        saved = OmegaConf.to_container(saved_config(ckpt), resolve=False)
    offer("inference", "checkpoint", saved.get("inference", {}))
    offer("model/scales", "checkpoint", saved.get("model", {}).get("scales") or {})
    return "predict", overrides


def predict(cfg: DictConfig) -> int:
    """Writes label and pictures of every image; returns how many were written. Broken files are listed at the end."""
    import torch
    from tqdm import tqdm

    from src import report, restore
    from src.data.dataset import read_image

    report.quiet()
    kinds = [cfg.save] if isinstance(cfg.save, str) else list(cfg.save)
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise UserError(f"save={sorted(unknown)} is unknown; choose from {', '.join(KINDS)}")
    base, images = find_images(cfg.source)
    names = output_names(base, images)
    device = choose_device(cfg.device)
    module = restore.load_module(cfg.ckpt, inference=cfg.inference, model=cfg.model).to(device)
    out, broken, pending = Path(cfg.out), [], []
    with ThreadPoolExecutor(2) as reader, ThreadPoolExecutor(2) as writer:
        for path, image in tqdm(read_ahead(reader, read_image, images), total=len(images), unit="image", disable=None):
            if isinstance(image, UserError):
                broken.append(str(image))
                continue
            batch = torch.from_numpy(image).to(device).permute(2, 0, 1)[None]
            try:
                label = module.predict_label(batch)[0].cpu().numpy()
            except UserError as error:
                broken.append(f"{path}: {error}")
                continue
            pending.append(
                writer.submit(_write, out, names[path], image, label, module.label_space.palette, kinds, cfg.alpha)
            )
            if len(pending) > 2 * AHEAD:
                pending.pop(0).result()
        for job in pending:
            job.result()
    written = len(images) - len(broken)
    report.say(f"{written} of {len(images)} images segmented: {out}")
    if broken:
        raise UserError(f"{len(broken)} files were left out:\n  " + "\n  ".join(broken))
    return written


def _write(
    out: Path, name: Path, image: np.ndarray, label: np.ndarray, palette: np.ndarray, kinds: list[str], alpha: float
) -> None:
    from src import viz

    pictures = {
        "index": lambda: label,
        "color": lambda: viz.colorize(label, palette),
        "overlay": lambda: viz.overlay(image, label, palette, alpha),
    }
    for kind in kinds:
        viz.save_png(out / kind / name, pictures[kind]())


if __name__ == "__main__":
    command("predict", predict, prepare=prepare)
