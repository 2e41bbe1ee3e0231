"""A trained net in Python: ``semseg.load(checkpoint).predict(image)`` gives what ``src.predict`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import cv2
import hydra
import numpy as np
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from .build.from_checkpoint import load_module
from .build.validate import check_line
from .cli.checkpoint_defaults import of_checkpoint
from .cli.in_python import own_hydra
from .cli.option_hints import explain
from .cli.overrides import quoted, readable
from .commands.checkpoint import as_label
from .data.decoding import read_image
from .errors import UserError
from .files.atomic import write_bytes
from .files.project import CONFIG_DIR, as_called
from .reports import pictures
from .runtime.environment import choose_device
from .training.module import SegmentationModule

__all__ = ["Image", "Segmentation", "Segmenter", "load"]

Image = np.ndarray | Tensor | str | Path
"""An image: (H,W,3) uint8 RGB as an array, (3,H,W) uint8 RGB as a tensor, or the path of a file."""


@dataclass(frozen=True)
class Segmentation:
    """What a net says of one image.

    Attributes:
        image: (H,W,3) uint8 RGB, as the net was given it.
        label: (H,W) uint8 class indices.
        confidence: (H,W) uint8, floor(255 p) of the probability p of that class; ``None`` unless asked for.
        classes: names of the classes, in the order of their indices.
        palette: (256,3) uint8 RGB, the colour of each index.
    """

    image: np.ndarray
    label: np.ndarray
    confidence: np.ndarray | None
    classes: tuple[str, ...]
    palette: np.ndarray

    def overlay(self, alpha: float = 0.5) -> np.ndarray:
        """(H,W,3) uint8 RGB: the image with the colours of its classes on top, of weight ``alpha`` (0..1)."""
        return pictures.overlay(self.image, self.label, self.palette, alpha)

    def areas(self) -> dict[str, float]:
        """The share (0..1) of the image's pixels that each class has."""
        counts = np.bincount(self.label.ravel(), minlength=len(self.classes))
        return {name: float(count / self.label.size) for name, count in zip(self.classes, counts, strict=False)}

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay."""
        return cv2.imencode(".png", self.overlay()[..., ::-1])[1].tobytes()

    def save(self, path: str | Path) -> None:
        """Writes the label map as an 8-bit PNG of class indices, whole or not at all.

        Raises:
            UserError: if ``path`` does not end in .png.
        """
        if Path(path).suffix.lower() != ".png":
            raise UserError(f"{path}: a label map is saved as PNG; give it a name that ends in .png")
        _, content = cv2.imencode(".png", self.label)
        write_bytes(Path(path), content.tobytes())


class Segmenter:
    """A trained net with its classes, normalisation, scales and inference.

    Attributes:
        classes: names of the classes, in the order of their indices.
        palette: (256,3) uint8 RGB, the colour of each index.
        module: the net inside, as a LightningModule in evaluation mode.
    """

    def __init__(self, module: SegmentationModule) -> None:
        self.module = module.eval()
        self.classes = tuple(module.label_space.names)
        self.palette = module.label_space.palette

    def __repr__(self) -> str:
        named = ", ".join(self.classes[:4])
        more = ", ..." if len(self.classes) > 4 else ""
        return f"<Segmenter: {len(self.classes)} classes ({named}{more}) on {self.module.device}>"

    @overload
    def predict(self, image: Image, *, confidence: bool = False) -> Segmentation: ...
    @overload
    def predict(self, image: Sequence[Image], *, confidence: bool = False) -> list[Segmentation]: ...
    def predict(self, image: Image | Sequence[Image], *, confidence: bool = False) -> Segmentation | list[Segmentation]:
        """Segments one image, or each of a list.

        Args:
            image: see ``Image``; of any size, and of different sizes in a list.
            confidence: whether to tell how probable each pixel's class is, which takes a little longer.

        Raises:
            UserError: for a file that cannot be read, or an array that is no such image.
        """
        if isinstance(image, Sequence) and not isinstance(image, str):
            return [self.predict(each, confidence=confidence) for each in image]
        array = _array(image)
        labels, confidences = as_label(self.module, with_confidence=confidence)(array[None])
        sure = None if confidences is None else confidences[0]
        return Segmentation(array, labels[0], sure, self.classes, self.palette)

    @torch.inference_mode()
    def scores(self, image: Image) -> np.ndarray:
        """(K,H,W) float32 scores of each class, fused over scales and windows; their softmax is the prediction."""
        batch = torch.from_numpy(_array(image)).to(self.module.device).permute(2, 0, 1)[None]
        return self.module.scores(batch)[0].float().cpu().numpy()


def load(ckpt: str | Path, *overrides: str, device: str = "auto") -> Segmenter:
    """The net of a checkpoint, as ``src.predict`` applies it.

    Args:
        ckpt: a checkpoint, a bundle, an address (``hf://``, ``https://``), or the folder of a run, whose best
            checkpoint is taken.
        overrides: options of ``src.predict``, such as ``"inference.flip=true"`` or ``"inference.scales=[0.5,1,2]"``.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.

    Raises:
        UserError: if the file cannot be used, or for an option that cannot be.
    """
    line = readable([quoted("ckpt", ckpt), "source=none", *overrides])
    try:
        with own_hydra():
            cfg = _composed(of_checkpoint(line)[1])
            module = load_module(cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride)
    except UserError as error:
        raise UserError(as_called(str(error))) from error
    return Segmenter(module.to(choose_device(device)))


def _composed(overrides: list[str]) -> DictConfig:
    try:
        check_line("predict", str(CONFIG_DIR), "predict", overrides)
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return hydra.compose("predict", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, "predict", overrides=overrides)) from error


def _array(image: Image) -> np.ndarray:
    """(H,W,3) uint8 RGB of an image in any of its forms."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Tensor):
        if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
            raise UserError(
                f"a tensor of shape {tuple(image.shape)} and {image.dtype} is no image; give (3,H,W) uint8 RGB"
            )
        return image.permute(1, 2, 0).cpu().contiguous().numpy()
    if not isinstance(image, np.ndarray):
        raise UserError(f"a {type(image).__name__} is no image; give a path, or (H,W,3) uint8 RGB as an array")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UserError(f"an array of shape {image.shape} and {image.dtype} is no image; give (H,W,3) uint8 RGB")
    return np.ascontiguousarray(image)
