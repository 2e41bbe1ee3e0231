"""Houses, fences and trees of unit size in a limited number of variants, built on first use and then shared."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from src.data.sets.toy.scene import Mesh, join
from src.data.sets.toy.shapes import limb, patches, rect

__all__ = ["building", "fence", "tree"]


@lru_cache(maxsize=256)
def tree(kind: str, variant: int, detail: int) -> Mesh:
    """Tree of unit height and unit crown radius, made of overlapping blobs that are lit at the top.

    Args:
        kind: ``"round"``, ``"conical"`` or ``"bush"`` (without a trunk).
        variant: picks the blobs.
        detail: 0 far away, 1 with some blobs, 2 with small tufts of leaves.

    Returns:
        a mesh with slots 0 and 1 for the shaded and lit trunk, 2 to 4 for leaves from dark to light.
    """
    rng = np.random.Generator(np.random.PCG64(variant))
    corners, base = 9 + detail, 0.0 if kind == "bush" else 0.34
    blobs, tufts = ((2, 2, 1), (3, 3, 2), (6, 6, 5))[detail], (0, 0, 14)[detail]
    shade = np.repeat([2, 2, 3, 4, 2, 3, 4], [1, *blobs, tufts, tufts, tufts])
    count = len(shade)
    tuft = np.arange(count) > sum(blobs)
    rank = np.clip((shade - 2) * 0.22 + 0.62 * rng.random(count), 0, 1)  # 0 at the crown's foot, 1 at its top
    reach = 1.05 - rank if kind == "conical" else np.sqrt(1 - (1.8 * rank - 0.9) ** 2)
    x = (2 * rng.random(count) - 1) * reach * np.where(tuft, 0.8, 0.62)
    size = np.where(tuft, 0.09, 0.42 - 0.07 * (shade - 2)) * (0.75 + 0.5 * rng.random(count)) * (0.5 + 0.5 * reach)
    x[0], size[0], rank[0] = 0.0, 0.62, 0.4  # one blob in the middle holds the crown together
    angle = 2 * np.pi * (np.arange(corners) / corners + rng.random((count, 1)))
    r = size[:, None] * (0.85 + 0.3 * rng.random((count, corners)))
    y = np.maximum(base + (0.14 + 0.72 * rank[:, None] + 0.5 * r * np.sin(angle)) * (1 - base), base * 0.8)
    crown = np.stack([x[:, None] + r * np.cos(angle), y, 0 * y], -1)
    if kind == "bush":
        return join([(crown, shade)])
    return join([(limb(0, 0, 0, 0.6, 0.17, 0.1), 0), (limb(-0.045, 0, -0.025, 0.6, 0.06, 0.04), 1), (crown, shade)])


@lru_cache(maxsize=256)
def fence(panels: int, style: str, *, fine: bool) -> Mesh:
    """Fence of unit length along +X and unit height. Slots: 0 panel, 1 lines, 2 rails and posts.

    Args:
        panels: how many posts but one.
        style: ``"planks"``, ``"railing"`` or ``"barrier"``.
        fine: with lines.
    """
    quad = rect(0, 1, 0, 1)[0]
    edge, w = np.arange(panels + 1) / panels, 0.06 / panels
    rails = [(e - w, e + w, 0, 1.08) for e in edge]
    lines: list[tuple[float, float, float, float]] = []
    if style == "planks":
        lines = [(c - w / 3, c + w / 3, 0.05, 0.95) for c in np.arange(1, 5 * panels) / (5 * panels)]
        rails.append((0, 1, 0.95, 1.03))
    elif style == "railing":
        lines = [(c - w / 3, c + w / 3, 0.3, 0.95) for c in np.arange(1, 6 * panels) / (6 * panels)]
        rails += [(0, 1, 0, 0.28), (0, 1, 0.92, 1.0)]
    else:
        step = 1 / (3 * panels)
        lines = [(c, c + step / 2, low, low + 0.27) for c in np.arange(3 * panels) * step for low in (0.2, 0.65)]
    marks = [(patches(quad, lines), 1)] if fine or style == "barrier" else []
    return join([(quad[None], 0), *marks, (patches(quad, rails), 2)])


def _wall(
    quad: np.ndarray, floors: int, bays: int, rng: np.random.Generator, *, shop: bool, fine: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A wall with its windows and doors; slots as in ``building``."""
    fill = rng.uniform(0.42, 0.6)
    boxes: list[tuple[float, float, float, float, int]] = [(0, 1, 0, floors, 0)]
    if shop:
        boxes.append((0, 1, 0, 0.94, 4))
    for floor in range(floors):
        wide, low, high = (0.84, 0.14, 0.68) if shop and floor == 0 else (fill, 0.3, 0.82)
        for bay in range(bays):
            left, right = (bay + 0.5 - wide / 2) / bays, (bay + 0.5 + wide / 2) / bays
            rim = 0.06 / bays
            if fine:
                boxes.append((left - rim, right + rim, floor + low - 0.05, floor + high + 0.04, 1))
            boxes.append((left, right, floor + low, floor + high, 2 if rng.random() < 0.62 else 3))
            if fine:
                boxes.append(((left + right - rim / 2) / 2, (left + right + rim / 2) / 2, floor + low, floor + high, 1))
    if fine:
        boxes.append((0, 1, 0, 0.1, 7))
        door, half = (rng.integers(bays) + 0.5) / bays, (fill / 2 + 0.06) / bays
        boxes += [(door - half, door + half, 0, 0.88, 1), (door - half * 0.8, door + half * 0.8, 0, 0.8, 5)]
        boxes.append((0, 1, 0.96, 1.03, 1))
    boxes.append((0, 1, floors - 0.1, floors + 0.06, 1))
    array = np.array(boxes)
    return patches(quad, array[:, :4] / (1, 1, floors, floors)), array[:, 4].astype(int)


@lru_cache(maxsize=1024)
def building(floors: int, bays: int, variant: int, *, shop: bool, pitched: bool, fine: bool) -> Mesh:
    """House on the right of the street: front at x = 0 and z from 0 to 1, one unit deep, each floor one unit high.

    Slots: 0 wall, 1 trim, 2 and 3 glass, 4 shop front, 5 door, 6 roof (one-sided), 7 plinth, 8 awning.
    """
    rng = np.random.Generator(np.random.PCG64([floors, bays, variant]))
    front = np.array([(0, 0, 0), (0, 0, 1), (0, floors, 1), (0, floors, 0)], np.float64)
    end = np.array([(0, 0, 0), (1, 0, 0), (1, floors, 0), (0, floors, 0)], np.float64)
    pieces: list[tuple[np.ndarray, int | np.ndarray]] = []
    if pitched:
        ridge = floors + 0.9
        pieces.append((np.array([[(0, floors, 0), (1, floors, 0), (0.5, ridge, 0)]]), 0))
        pieces.append((np.array([[(-0.03, floors, 0), (0.5, ridge, 0), (0.5, ridge, 1), (-0.03, floors, 1)]]), 6))
    pieces.append(_wall(end, floors, 2, rng, shop=False, fine=False) if fine else (end[None], 0))
    pieces.append(_wall(front, floors, bays, rng, shop=shop, fine=fine))
    if shop and fine:
        for bay in range(bays):
            z0, z1 = (bay + 0.05) / bays, (bay + 0.95) / bays
            pieces.append((np.array([[(0, 0.92, z0), (0, 0.92, z1), (-0.12, 0.74, z1), (-0.12, 0.74, z0)]]), 8))
    return join(pieces)
