"""What describes a toy street: a camera, light and weather, meshes in their places, and the draws that lay it out.

World: X right, Y up, Z ahead, all in metres. Frames are measured in their own height, never in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from .meshes import Mesh

__all__ = ["RGB", "Camera", "Material", "Mood", "Plan", "Scene", "dim", "material"]

_ASPECT = 1.6  # frames narrower than this see the same street width in less height
_SHADOWS_END = 32.0  # metres; farther shadows are thinner than a pixel

BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(1, 11)

# Cars, clothes, shop fronts, doors and fences share these paints: colour alone must not tell a class.
PAINTS = (
    (232, 230, 224), (188, 192, 196), (66, 68, 74), (46, 48, 56), (184, 44, 40), (46, 90, 164), (204, 176, 130),
    (62, 112, 76), (228, 168, 56), (136, 98, 74), (158, 86, 66), (118, 156, 184), (112, 54, 82), (92, 122, 126),
)  # fmt: skip
PLASTER = (
    (232, 214, 178), (220, 178, 118), (206, 128, 94), (170, 90, 70), (186, 188, 186), (146, 162, 178), (238, 234, 222),
    (180, 196, 162), (226, 176, 152), (132, 112, 100), (206, 194, 162), (160, 118, 86),
)  # fmt: skip
ROOFS = ((150, 72, 52), (110, 66, 54), (78, 80, 90), (118, 106, 98), (168, 94, 60))
LEAVES = ((74, 126, 50), (92, 136, 54), (112, 138, 48), (58, 112, 64), (176, 138, 46), (164, 94, 42))
BARK = ((98, 76, 60), (116, 102, 88), (78, 64, 56))
STONE = ((170, 162, 152), (156, 156, 158), (184, 166, 144), (146, 132, 122))
STEEL = ((112, 116, 120), (72, 78, 80), (58, 82, 68), (154, 154, 152), (100, 86, 72))
SKIN = ((240, 198, 166), (210, 158, 122), (154, 106, 78), (100, 68, 52))
HAIR = ((40, 32, 28), (84, 58, 38), (166, 126, 70), (150, 148, 146), (184, 44, 40), (220, 208, 196))
# Noon, evening, overcast, dusk: how often; the sun's height; sunlight, ambient light; sky at the zenith and at the
# horizon; share of clouds.
_TIMES = (
    (0.42, (0.50, 0.85), (0.92, 0.86, 0.74), (0.56, 0.60, 0.68), (58, 124, 212), (200, 222, 238), (0.15, 0.65)),
    (0.22, (0.28, 0.42), (1.00, 0.68, 0.36), (0.50, 0.48, 0.56), (84, 118, 190), (255, 206, 150), (0.20, 0.60)),
    (0.21, (0.95, 0.95), (0.12, 0.12, 0.12), (0.80, 0.83, 0.87), (150, 162, 176), (214, 218, 220), (0.70, 1.00)),
    (0.15, (0.60, 0.60), (0.10, 0.09, 0.12), (0.43, 0.45, 0.60), (28, 42, 98), (198, 136, 130), (0.20, 0.60)),
)
_OVERCAST, _DUSK = 2, 3

RGB = tuple[float, float, float]
Material = tuple[float, float, float, float, float, float]


def material(rgb: RGB, class_id: int, *, emission: float = 0.0, one_sided: bool = False) -> Material:
    """Palette row: colour 0..255, class id, share of light of its own (0..1), invisible from behind or not."""
    return (*rgb, class_id, emission, one_sided)


@dataclass(frozen=True)
class Camera:
    """A pinhole above the street; ``focal``, ``yaw`` and ``horizon`` are in frame heights.

    Args:
        focal: focal length.
        x: metres right of the street's middle.
        height: metres above the ground.
        yaw: shift of the vanishing point to the right.
        horizon: the vanishing point, from the top.
        bend: how fast the street curves to the right, 1/m.
    """

    focal: float
    x: float
    height: float
    yaw: float
    horizon: float
    bend: float

    def project(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """(3,N) metres -> (2,N) pixel coordinates x, y in a frame of that size."""
        unit = min(height, width / _ASPECT)
        x, y, z = points
        right = self.yaw + self.focal * ((x - self.x) / z + self.bend * z)
        down = self.horizon - 0.5 + self.focal * (self.height - y) / z
        return np.stack([width / 2 + unit * right, height / 2 + unit * down])

    def horizon_row(self, height: int, width: int) -> int:
        """The row of the vanishing point, kept inside the frame."""
        row = round(height / 2 + min(height, width / _ASPECT) * (self.horizon - 0.5))
        return min(max(row, 1), height - 1)


@dataclass(frozen=True)
class Mood:
    """Light and weather; colours of light are factors on albedo, colours of air are 0..255.

    Args:
        sun: unit vector towards the sun.
        sunlight: direct light.
        ambient: light from everywhere.
        zenith: sky above.
        skyline: sky at the horizon; distance fades into it.
        clouds: share of the sky that is clouded, 0..1.
        haze: share of a colour lost per metre.
        rain: strength of rain streaks, 0..1; any rain wets the road.
        dark: whether lamps burn.
    """

    sun: tuple[float, float, float]
    sunlight: RGB
    ambient: RGB
    zenith: RGB
    skyline: RGB
    clouds: float
    haze: float
    rain: float
    dark: bool


@dataclass
class Scene:
    """What stands where: meshes to paint, blocks (x, z, width, height, depth) that throw shadows, lamps that glow."""

    camera: Camera
    mood: Mood
    meshes: list[tuple[float, Mesh, Sequence[Material], tuple[float, ...]]] = field(default_factory=list)
    blocks: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    glows: list[tuple[float, float, float, float, float, float]] = field(default_factory=list)

    def add(
        self,
        mesh: Mesh,
        palette: Sequence[Material],
        at: tuple[float, float, float] = (0.0, 0.0, 0.0),
        *,
        scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
        yaw: float = 0.0,
        layer: float = 0.0,
    ) -> None:
        """Places a mesh: scaled, then turned about its vertical axis, then moved.

        Args:
            mesh: shape around its own origin.
            palette: one ``material`` row per slot.
            at: position of the origin.
            scale: factor per axis.
            yaw: angle, radians.
            layer: added to the distance that sorts far to near; whole groups such as the ground take a large one.
        """
        self.meshes.append((layer + at[2], mesh, palette, (*scale, yaw, *at)))

    def shade(self, x: float, z: float, width: float, height: float, depth: float = 0.4) -> None:
        """Shadow on the ground of an upright block of that size whose foot is centred on (x, z)."""
        if z < _SHADOWS_END:
            self.blocks.append((x, z, width, height, depth))

    def glow(self, x: float, y: float, z: float, color: RGB) -> None:
        """A halo around a lamp."""
        self.glows.append((x, y, z, *color))


def dim(rgb: RGB, factor: float) -> RGB:
    """A darker or brighter shade."""
    return rgb[0] * factor, rgb[1] * factor, rgb[2] * factor


def _mood(rnd: Random) -> Mood:
    time = rnd.choices(range(4), [row[0] for row in _TIMES])[0]
    _, height, sunlight, ambient, zenith, skyline, clouds = _TIMES[time]
    rain = rnd.uniform(0.4, 1.0) if time in (_OVERCAST, _DUSK) and rnd.random() < 0.45 else 0.0
    haze = rnd.choice((0.002, 0.003, 0.004, 0.007, 0.018)) + 0.006 * (rain > 0)
    up, azimuth = rnd.uniform(*height), rnd.choice((-1, 1)) * rnd.uniform(1.0, 2.1)
    flat = math.sqrt(1 - up * up)
    sun = (flat * math.sin(azimuth), up, flat * math.cos(azimuth))
    cover = rnd.uniform(*clouds)
    return Mood(sun, sunlight, ambient, zenith, skyline, clouds=cover, haze=haze, rain=rain, dark=time == _DUSK)


class Plan:
    """One street: its random draws, its scene to fill, and its measures in metres.

    Attributes:
        rnd: every draw of the layout, in a fixed order.
        scene: what has been placed so far.
        parked: by side (-1 left, 1 right), whether cars park there.
        half: half the road's width.
        walk: by side, the pavement's width.
        crossing: distance to the zebra crossing, a side street behind it; infinite if there is none.
    """

    def __init__(self, rnd: Random) -> None:
        self.rnd = rnd
        mood = _mood(rnd)
        self.parked = {side: rnd.random() < 0.5 for side in (-1, 1)}
        self.half = rnd.uniform(3.3, 4.4) + 0.9 * sum(self.parked.values())
        self.walk = {side: rnd.uniform(2.6, 4.4) for side in (-1, 1)}
        self.crossing = rnd.uniform(13, 28) if rnd.random() < 0.55 else math.inf
        camera = Camera(
            focal=rnd.uniform(1.2, 1.5),
            x=rnd.uniform(0.2, 0.5) * (self.half - 2 * self.parked[1]),
            height=rnd.uniform(1.35, 1.75),
            yaw=rnd.uniform(-0.22, 0.22),
            horizon=rnd.uniform(0.41, 0.51),
            bend=rnd.uniform(-0.0016, 0.0016),
        )
        self.scene = Scene(camera, mood)

    def paint(self, paints: Sequence[RGB] = PAINTS) -> RGB:
        """One of the paints, a little darker or brighter."""
        draw = self.rnd.random  # by far the most frequent draw, hence not choice and uniform
        return dim(paints[int(draw() * len(paints))], 0.85 + 0.27 * draw())

    def distance(self, low: float, high: float) -> float:
        """A distance that is even in the picture rather than on the ground: dense nearby, sparse far away."""
        return 1 / self.rnd.uniform(1 / high, 1 / low)
