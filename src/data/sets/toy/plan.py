"""What a toy street is planned with: class ids, paints, light, and the measures that all its parts share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from src.data.sets.toy.scene import RGB, Camera, Mood, Scene

__all__ = ["Plan", "dim"]

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
