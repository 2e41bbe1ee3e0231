"""The description of a toy scene: meshes of convex polygons, a camera, light and weather.

World: X right, Y up, Z ahead, all in metres. Frames are measured in their own height, never in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["RGB", "Camera", "Material", "Mesh", "Mood", "Scene", "join", "material"]

_ASPECT = 1.6  # frames narrower than this see the same street width in less height
_SHADOWS_END = 32.0  # metres; farther shadows are thinner than a pixel

RGB = tuple[float, float, float]
Material = tuple[float, float, float, float, float, float]


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
