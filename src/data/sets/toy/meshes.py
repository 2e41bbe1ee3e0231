"""Shapes of a toy street as meshes: ground, posts and signs; houses, fences and trees; cars, people and cyclists.

A mesh is built once, on import or first use, and then shared by all scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

__all__ = [
    "ARM", "BIN", "BLOCK", "BONNET", "CARS", "CYCLISTS", "JOINTS", "PEOPLE", "POST", "SIGNS", "STRIPS",
    "TRAFFIC_LIGHTS", "Mesh", "building", "fence", "ground", "tree",
]  # fmt: skip


class Mesh(NamedTuple):
    """Convex polygons: ``points`` (N,3) metres, ``sizes`` (F,) corners of each, ``slots`` (F,) rows of its palette."""

    points: np.ndarray
    sizes: np.ndarray
    slots: np.ndarray


def join(pieces: Sequence[tuple[np.ndarray, int | np.ndarray]]) -> Mesh:
    """One mesh of pieces ``(polygons (P,K,3), palette slot or (P,) slots)``, painted in that order."""
    return Mesh(
        np.concatenate([polygons.reshape(-1, 3) for polygons, _ in pieces]).astype(np.float32),
        np.repeat([p.shape[1] for p, _ in pieces], [len(p) for p, _ in pieces]),
        np.concatenate([np.broadcast_to(slot, len(polygons)) for polygons, slot in pieces]),
    )


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
    rails: list[tuple[float, float, float, float]] = [(e - w, e + w, 0, 1.08) for e in edge]
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


Ring = tuple[float, float, float, float]  # half width, height, rear z, front z

_RIM = [(x, -0.03 * (x / 1.1) ** 4) for x in np.linspace(-2.2, 2.2, 13)]
BONNET = join([(polygon(*_RIM, (2.2, -3), (-2.2, -3)), 0), (polygon(*_RIM, (2.2, -3), (-2.2, -3)) - (0, 0.035, 0), 1)])


def _frustum(bottom: Ring, top: Ring) -> dict[str, np.ndarray]:
    """Faces of a truncated block, their corners in the order that makes them visible from outside."""
    (w0, y0, r0, f0), (w1, y1, r1, f1) = bottom, top
    a, b, c, d = (-w0, y0, r0), (w0, y0, r0), (w0, y0, f0), (-w0, y0, f0)
    e, f, g, h = (-w1, y1, r1), (w1, y1, r1), (w1, y1, f1), (-w1, y1, f1)
    faces = {
        "rear": (a, b, f, e),
        "right": (b, c, g, f),
        "front": (c, d, h, g),
        "left": (d, a, e, h),
        "top": (e, f, g, h),
    }
    return {name: np.array(corners, np.float64) for name, corners in faces.items()}


def _wheels(half: float, z: float) -> list[tuple[np.ndarray, int]]:
    """Four wheels, seen from the sides; slots as in ``_car``."""
    pieces = []
    for center in (-z, z):
        for side in (-1, 1):
            for radius, slot, out in ((0.33, 2, 0.0), (0.18, 3, 0.01)):
                along, up, _ = disc(center * side, 0.33, radius, 12)[0].T
                pieces.append((np.stack([np.full(12, side * (half + out)), up, along * side], 1)[None], slot))
    return pieces


def _car(length: float, width: float, waist: float, height: float, cabin: tuple[float, float, float, float]) -> Mesh:
    """Car heading to +Z, one-sided; ``cabin`` is its rear and front at the waist, its rear and front at the roof.

    Slots: 0 paint, 1 glass, 2 black, 3 metal, 4 tail light, 5 head light, 6 plate, 7 bumper.
    """
    half, rear, front = width / 2, -length / 2, length / 2
    bumper = _frustum((half * 0.96, 0.26, rear, front), (half, 0.52, rear - 0.04, front + 0.04))
    body = _frustum((half, 0.52, rear - 0.04, front + 0.04), (half * 0.93, waist, rear + 0.06, front - 0.12))
    r0, f0, r1, f1 = cabin
    glass = _frustum((half * 0.92, waist, r0, f0), (half * 0.76, height, r1, f1))
    under = _frustum((half * 0.9, 0.1, rear + 0.3, front - 0.3), (half * 0.9, 0.3, rear + 0.3, front - 0.3))
    tyres = _frustum((half * 0.94, 0.0, rear + 0.45, front - 0.45), (half * 0.94, 0.3, rear + 0.45, front - 0.45))
    pieces = [(patches(tyres[face], [(0, 0.16, 0, 1), (0.84, 1, 0, 1)]), 2) for face in ("rear", "front")]
    pieces += [(under[face][None], 2) for face in ("rear", "right", "front", "left")]
    pieces += [(face[None], 7) for face in bumper.values()] + [(face[None], 0) for face in body.values()]
    pieces += _wheels(half, front * 0.62)
    pieces.append((patches(body["rear"], [(0.02, 0.2, 0.35, 0.8), (0.8, 0.98, 0.35, 0.8)]), 4))
    pieces.append((patches(body["front"], [(0.03, 0.24, 0.3, 0.75), (0.76, 0.97, 0.3, 0.75)]), 5))
    pieces.append((patches(body["front"], [(0.28, 0.72, 0.15, 0.6)]), 2))
    pieces += [(patches(bumper[face], [(0.36, 0.64, 0.25, 0.8)]), 6) for face in ("rear", "front")]
    pieces += [(face[None], 0) for face in glass.values()]
    pieces += [(patches(glass[face], [(0.08, 0.92, 0.12, 0.86)]), 1) for face in ("rear", "front")]
    pieces += [
        (patches(glass[face], [(0.08, 0.47, 0.1, 0.86), (0.52, 0.93, 0.1, 0.86)]), 1) for face in ("left", "right")
    ]
    return join(pieces)


CARS = (
    _car(4.1, 1.75, 0.92, 1.46, (-2.0, 1.05, -1.6, 0.25)),  # hatchback
    _car(4.5, 1.80, 0.90, 1.42, (-1.5, 1.1, -0.95, 0.25)),  # saloon
    _car(4.5, 1.90, 1.05, 1.72, (-2.15, 1.2, -1.95, 0.45)),  # off-roader
    _car(5.0, 1.95, 1.15, 2.20, (-2.4, 1.75, -2.35, 1.1)),  # van
)

_TORSO = polygon((-0.2, 0.84), (0.2, 0.84), (0.25, 1.38), (0.15, 1.48), (-0.15, 1.48), (-0.25, 1.38))


def _person(stride: float, *, skirt: bool = False, bag: bool = False) -> Mesh:
    """Standing or walking, 1.75 m. Slots: 0 trousers, 1 shoes, 2 top, 3 sleeves, 4 skin, 5 hair, 6 bag."""
    legs = [(limb(s, 0.1, 0.07 * math.copysign(1, s), 0.92, 0.13, 0.21), 0) for s in (-stride, stride)]
    shoes = [(limb(s - 0.06, 0.05, s + 0.14, 0.05, 0.1, 0.08), 1) for s in (-stride, stride)]
    arms = [(limb(s * 0.2, 1.38, s * (0.27 + stride * 0.3), 0.84, 0.13, 0.1), 3) for s in (-1, 1)]
    pieces = [*legs, *shoes, arms[0], (_TORSO, 2)]
    if skirt:
        pieces.append((polygon((-0.32, 0.5), (0.32, 0.5), (0.18, 0.98), (-0.18, 0.98)), 2))
    if bag:
        pieces.append((polygon((0.12, 0.75), (0.42, 0.75), (0.38, 1.08), (0.16, 1.08)), 6))
    head = [(limb(0, 1.44, 0, 1.56, 0.1, 0.1), 4), (disc(0, 1.63, 0.13, 10), 4)]
    return join([*pieces, arms[1], *head, (disc(0, 1.655, 0.145, 8, start=-0.03, turn=0.56), 5)])


PEOPLE = (
    _person(0.1), _person(0.24), _person(0.32, bag=True), _person(0.1, skirt=True), _person(0.18, skirt=True, bag=True)
)  # fmt: skip


def _cyclist_across() -> Mesh:
    """Riding to +X. Slots: 0 tyre, 1 spokes, 2 frame, 3 trousers, 4 top, 5 sleeves, 6 skin, 7 helmet."""
    rear, pedals, saddle, head, front = (-0.54, 0.34), (-0.02, 0.3), (-0.16, 0.84), (0.4, 0.82), (0.54, 0.34)
    bars = ((rear, saddle), (rear, pedals), (pedals, head), (saddle, head), (front, (0.38, 1.02)))
    pieces = [(disc(x, 0.34, radius, 16), slot) for x in (-0.54, 0.54) for radius, slot in ((0.36, 0), (0.27, 1))]
    pieces += [(limb(*start, *end, 0.06, 0.06), 2) for start, end in bars]
    pieces += [(limb(-0.18, 0.95, 0.1, 0.62, 0.2, 0.15), 3), (limb(0.1, 0.66, -0.06, 0.2, 0.15, 0.11), 3)]
    pieces += [(limb(-0.2, 0.96, 0.2, 0.78, 0.23, 0.16), 3), (limb(0.18, 0.82, 0.12, 0.36, 0.16, 0.11), 3)]
    pieces += [(limb(-0.2, 0.9, 0.14, 1.46, 0.3, 0.34), 4), (limb(0.14, 1.38, 0.42, 1.04, 0.13, 0.1), 5)]
    return join([*pieces, (disc(0.28, 1.62, 0.13, 10), 6), (disc(0.27, 1.65, 0.15, 8, start=-0.02, turn=0.54), 7)])


def _cyclist_along() -> Mesh:
    """Riding to or fro; the slots of ``_cyclist_across``."""
    pieces = [(limb(0, 0, 0, 0.7, 0.12, 0.12), 0), (limb(0, 0.5, 0, 0.95, 0.1, 0.12), 2)]
    pieces += [(limb(-0.3, 1.02, 0.3, 1.02, 0.06, 0.06), 2)]
    pieces += [(limb(-0.14, 0.16, -0.12, 0.95, 0.12, 0.21), 3), (limb(0.14, 0.34, 0.12, 0.95, 0.12, 0.21), 3)]
    pieces += [(limb(s * 0.21, 1.42, s * 0.31, 1.02, 0.13, 0.1), 5) for s in (-1, 1)]
    return join(
        [
            *pieces,
            (_TORSO + np.array([0, 0.03, 0]), 4),
            (disc(0, 1.64, 0.13, 10), 6),
            (disc(0, 1.66, 0.15, 8, start=-0.03, turn=0.56), 7),
        ]
    )


CYCLISTS = (_cyclist_along(), _cyclist_across())
