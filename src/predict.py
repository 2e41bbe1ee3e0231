"""Segment images: ``python -m src.predict ckpt=PATH source=<image|folder|glob>``."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from src.cli import command, offer, value_of
from src.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}
KINDS = ("index", "color", "overlay")
_AHEAD = 4  # images read before they are needed


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


def find_images(source: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the images of a file, a folder with its sub-folders, or a glob.

    Raises:
        UserError: if there is no image.
    """
    path = Path(source)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        base, found = path, path.rglob("*")
    else:
        wildcard = next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts) - 1)
        base = Path(*path.parts[:wildcard])
        found = base.glob(str(Path(*path.parts[wildcard:]))) if path.parts else ()
    images = sorted(item for item in found if item.suffix.lower() in SUFFIXES and item.is_file())
    if not images:
        raise UserError(
            f"source={source}: no image found; give an image, a folder, or a quoted glob with"
            f" {', '.join(sorted(SUFFIXES))}"
        )
    return base, images


def output_names(base: Path, images: list[Path]) -> dict[Path, Path]:
    """Image -> where its result goes below each output folder: its own place, with ``.png`` for its extension.

    Images that differ in the extension only keep theirs, so that none overwrites another.
    """
    stems = Counter(path.with_suffix("") for path in images)
    alone = {path: stems[path.with_suffix("")] == 1 for path in images}
    return {
        path: path.relative_to(base).with_suffix(".png" if alone[path] else f"{path.suffix}.png") for path in images
    }


def predict(cfg: DictConfig) -> int:
    """Writes label and pictures of every image; returns how many were written. Broken files are listed at the end."""
    import torch
    from tqdm import tqdm

    from src import report, restore

    report.quiet()
    kinds = [cfg.save] if isinstance(cfg.save, str) else list(cfg.save)
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise UserError(f"save={sorted(unknown)} is unknown; choose from {', '.join(KINDS)}")
    base, images = find_images(cfg.source)
    names = output_names(base, images)
    device = _device(cfg.device)
    module = restore.load_module(cfg.ckpt, inference=cfg.inference, model=cfg.model).to(device)
    out, broken, pending = Path(cfg.out), [], []
    with ThreadPoolExecutor(2) as reader, ThreadPoolExecutor(2) as writer:
        for path, image in tqdm(_read_ahead(reader, images), total=len(images), unit="image", disable=None):
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
            if len(pending) > 2 * _AHEAD:
                pending.pop(0).result()
        for job in pending:
            job.result()
    written = len(images) - len(broken)
    report.say(f"{written} of {len(images)} images segmented: {out}")
    if broken:
        raise UserError(f"{len(broken)} files were left out:\n  " + "\n  ".join(broken))
    return written


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"device={name} is unknown; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: this machine has no usable GPU; use device=cpu")
    return name


def _read_ahead(pool: ThreadPoolExecutor, images: list[Path]) -> Iterator[tuple[Path, np.ndarray | UserError]]:
    """Images in order, a few of them read before they are asked for; a broken file gives its error."""
    from src.data.dataset import read_image

    jobs: list[tuple[Path, Future]] = []
    for path in images:
        jobs.append((path, pool.submit(read_image, path)))
        if len(jobs) > _AHEAD:
            yield _result(*jobs.pop(0))
    for job in jobs:
        yield _result(*job)


def _result(path: Path, job: Future) -> tuple[Path, np.ndarray | UserError]:
    try:
        return path, job.result()
    except UserError as error:
        return path, error


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
