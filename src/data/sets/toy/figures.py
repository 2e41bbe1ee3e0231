"""Cars, people and cyclists as meshes, built once on import."""

from __future__ import annotations

import math

import numpy as np

from src.data.sets.toy.scene import Mesh, join
from src.data.sets.toy.shapes import disc, limb, patches, polygon

__all__ = ["BONNET", "CARS", "CYCLISTS", "PEOPLE"]

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
