"""A stand-in for photos of your own: cells under a microscope, with a mask each: python scripts/make_cells.py FOLDER

Writes FOLDER/images/*.png and FOLDER/masks/*.png (0 background, 255 cell), and FOLDER/new/*.png without masks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np


def cells(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H,W,3) uint8 and its mask (H,W) uint8 of 0 and 255: stained cells, some touching, and dust."""
    picture = np.full((height, width, 3), random.uniform(200, 235, 3), np.float32)
    mask = np.zeros((height, width), np.uint8)
    light = cv2.resize(random.normal(0, 14, (4, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    stain = random.uniform((90, 40, 110), (150, 90, 170))
    for _ in range(random.integers(12, 30)):
        centre = random.integers((0, 0), (width, height)).tolist()
        axes = random.integers(8, 26, 2).tolist()
        turn = float(random.uniform(0, 180))
        cv2.ellipse(mask, centre, axes, turn, 0, 360, 255, -1, cv2.LINE_8)
        cv2.ellipse(picture, centre, axes, turn, 0, 360, (stain + random.normal(0, 12, 3)).tolist(), -1, cv2.LINE_AA)
        nucleus = [max(2, side // 3) for side in axes]
        cv2.ellipse(picture, centre, nucleus, turn, 0, 360, (0.6 * stain).tolist(), -1, cv2.LINE_AA)
    for _ in range(random.integers(10, 40)):
        cv2.circle(picture, random.integers((0, 0), (width, height)).tolist(), 2, (120, 110, 100), -1, cv2.LINE_AA)
    picture = cv2.GaussianBlur(picture + light[..., None], (0, 0), 1.0) + random.normal(0, 5, picture.shape)
    return picture.clip(0, 255).astype(np.uint8), mask


def main() -> None:
    """Writes the folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=80, help="with a mask [80]")
    parser.add_argument("--new", type=int, default=4, help="without one [4]")
    options = parser.parse_args()
    for name in ("images", "masks", "new"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(options.images + options.new):
        size = [(240, 320), (256, 256), (200, 300)][index % 3]  # photos come in several sizes
        picture, mask = cells(random, *size)
        labelled = index < options.images
        cv2.imwrite(str(options.folder / ("images" if labelled else "new") / f"slide_{index:03d}.png"), picture)
        if labelled:
            cv2.imwrite(str(options.folder / "masks" / f"slide_{index:03d}.png"), mask)


if __name__ == "__main__":
    main()
