"""Polygons to build toy shapes from, and the plain shapes: ground, posts, signs, bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from src.data.sets.toy.scene import Mesh, join

__all__ = [
    "ARM", "BIN", "BLOCK", "JOINTS", "POST", "SIGNS", "STRIPS", "TRAFFIC_LIGHTS",
    "disc", "ground", "limb", "patches", "polygon", "rect",
]  # fmt: skip


def polygon(*corners: tuple[float, float]) -> np.ndarray:
    """(1,K,3) upright polygon at z = 0."""
    return np.array([[(x, y, 0.0) for x, y in corners]])


def rect(left: float, right: float, bottom: float, top: float) -> np.ndarray:
    """(1,4,3) upright rectangle at z = 0."""
    return polygon((left, bottom), (right, bottom), (right, top), (left, top))


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float) -> np.ndarray:
    """(1,4,3) tapering bar from (x0, y0) to (x1, y1), ``w0`` and ``w1`` wide at its ends."""
    length = math.hypot(x1 - x0, y1 - y0)
    nx, ny = (y0 - y1) / length / 2, (x1 - x0) / length / 2
    start = (x0 - nx * w0, y0 - ny * w0), (x0 + nx * w0, y0 + ny * w0)
    return polygon(*start, (x1 + nx * w1, y1 + ny * w1), (x1 - nx * w1, y1 - ny * w1))


def disc(x: float, y: float, radius: float, corners: int, *, start: float = 0.0, turn: float = 1.0) -> np.ndarray:
    """(1,corners,3) regular polygon, or the segment of it that spans ``turn`` of the circle from ``start`` on."""
    angle = 2 * math.pi * (start + turn * np.arange(corners) / (corners if turn == 1 else corners - 1))
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle), np.zeros(corners)], 1)[None]


def patches(quad: np.ndarray, boxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """(P,4,3) parts of a (4,3) quadrilateral, each given as (left, right, bottom, top) in its own unit square."""
    box = np.asarray(boxes, np.float64).reshape(-1, 4)
    u, v = box[:, [0, 1, 1, 0], None], box[:, [2, 2, 3, 3], None]
    return (quad[0] * (1 - u) + quad[1] * u) * (1 - v) + (quad[3] * (1 - u) + quad[2] * u) * v


def ground(boxes: Sequence[Sequence[float]] | np.ndarray) -> Mesh:
    """Rectangles on the ground, each (left, right, near, far); one slot."""
    a, b, c, d = np.asarray(boxes, np.float64).T
    return join([(np.stack([np.stack([x, 0 * x, z], 1) for x, z in ((a, c), (b, c), (b, d), (a, d))], 1), 0)])


_EDGES = (2.2, 5, 9, 14, 21, 32, 50, 85, 190)
STRIPS = ground([(0, 1, near, far) for near, far in pairwise(_EDGES)])  # unit width
JOINTS = ground([(0, 1, z, z + 0.06) for z in np.arange(5, 22, 1.5)])  # across the pavement, unit width
BLOCK = join([(rect(-0.5, 0.5, 0, 1), 0)])  # unit size
POST = join([(rect(-0.5, 0.5, 0, 1), 0), (rect(-0.42, 0, 0, 1), 1)])  # unit size; shaded, lit side
_LANTERN = (limb(0.85, 0.06, 1.55, 0.1, 0.24, 0.18), 1), (limb(0.95, -0.06, 1.5, -0.01, 0.14, 0.14), 2)
ARM = join([(limb(0, -0.07, 1, 0.1, 0.15, 0.12), 0), *_LANTERN])  # of a lamp, to +X; shaded, lit side, light
BIN = join([(limb(0, 0, 0, 0.9, 0.5, 0.6), 0), (limb(0, 0.88, 0, 1.0, 0.68, 0.6), 1)])  # body, lid

_BOARD = rect(-0.75, 0.75, -1, 1)
SIGNS = tuple(  # about their centre, half height 1; rim, field, mark
    join([(outer, 0), (inner, 1), *[(mark, 2) for mark in marks]])
    for outer, inner, marks in (
        (disc(0, 0, 1, 16), disc(0, 0, 0.72, 16), [rect(-0.45, 0.45, -0.15, 0.15)]),
        (
            disc(0, -0.1, 1.2, 3, start=0.25),
            disc(0, -0.1, 0.72, 3, start=0.25),
            [limb(0, -0.3, 0, 0.25, 0.18, 0.14)],
        ),
        (_BOARD, _BOARD * 0.86, [rect(-0.12, 0.12, -0.6, 0.2), disc(0, 0.3, 0.35, 8)]),
        (
            _BOARD * (1.7, 0.8, 1),
            _BOARD * (1.6, 0.68, 1),
            [rect(-0.9, 0.9, 0.12, 0.28), rect(-0.9, 0.4, -0.28, -0.12)],
        ),
    )
)
TRAFFIC_LIGHTS = tuple(  # about their centre, about 1 m high; rim, case, dead lens, burning lens
    join([
        (rect(-0.29, 0.29, -0.6, 0.6), 0), (rect(-0.24, 0.24, -0.55, 0.55), 1),
        *[(disc(0, 0.34 - 0.34 * lens, 0.14, 10), 3 if lens == lit else 2) for lens in range(3)],
    ])
    for lit in range(3)
)  # fmt: skip
