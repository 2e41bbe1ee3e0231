"""A tiny flat-shading renderer: polygons in metres go into image and label by the very same fill.

A scene is painted far to near on a canvas of twice the size whose fourth channel is the class id; the image is the
canvas' area average, the label its every second pixel. Every length is relative to the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import cv2
import numpy as np

from .meshes import Mesh
from .scene import Scene

__all__ = ["render"]

_OVERSAMPLING = 2
_SHIFT = 4  # OpenCV reads polygon corners as fixed-point numbers with this many fractional bits
_NEAREST = 0.8  # metres; nothing is nearer to the camera
_SLIVER = 2.0  # canvas pixels; polygons thinner than this are left out

_SKY, _ROAD, _PAVEMENT = 0, 3, 4
# How strongly the surface noise marks each class: foliage most, painted metal least.
_TEXTURE = np.zeros(256, np.float32)
_TEXTURE[:11] = (0.01, 0.10, 0.06, 0.12, 0.14, 0.42, 0.04, 0.14, 0.03, 0.08, 0.08)
_ON_GROUND = np.zeros(256, np.float32)
_ON_GROUND[[_ROAD, _PAVEMENT]] = 1 / 255


def render(scene: Scene, *, height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paints a scene.

    Args:
        scene: what to paint.
        height: rows of the result.
        width: columns of the result.
        rng: source of clouds, surface texture, rain and sensor noise.

    Returns:
        image (H,W,3) uint8 RGB and label (H,W) uint8 class ids.
    """
    canvas = np.empty((height * _OVERSAMPLING, width * _OVERSAMPLING, 4), np.uint8)
    _paint_sky(canvas, scene, rng)
    _paint_meshes(canvas, scene)
    label = canvas[::_OVERSAMPLING, ::_OVERSAMPLING, 3].copy()
    image = cv2.cvtColor(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGBA2RGB)
    image = cv2.multiply(image, _light_and_texture(label, scene, rng), dtype=cv2.CV_8U)
    image = _weather(image, label, scene, rng)
    strength = 0.02 + 0.03 * scene.mood.dark + 0.03 * rng.random()
    return cv2.addWeighted(image, 1, _noise(rng, image.shape), strength, -127.5 * strength), label


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)


def _fractal(rng: np.random.Generator, height: int, width: int, cells: Sequence[int]) -> np.ndarray:
    """(H,W) float32 noise in about -1..1: octaves of ``cells`` rows, each half as strong as the one before."""
    total, weight, sum_ = np.zeros((height, width), np.float32), 1 / 128, 0.0
    for rows in cells:
        octave = cv2.resize(_noise(rng, (rows, 2 * rows)), (width, height), interpolation=cv2.INTER_LINEAR)
        total = cv2.addWeighted(total, 1, octave, weight, 0, dtype=cv2.CV_32F)
        sum_ += 127.5 * weight
        weight /= 2
    return total - sum_


def _paint_sky(canvas: np.ndarray, scene: Scene, rng: np.random.Generator) -> None:
    """Gradient, clouds and the sun's glow above the horizon; below it the ground starts as road."""
    height, width = canvas.shape[:2]
    mood, camera = scene.mood, scene.camera
    row = camera.horizon_row(height, width) + 1
    zenith, skyline = np.array([(*mood.zenith, 0), (*mood.skyline, 0)], np.float32)
    down = np.linspace(0, 1, 20, dtype=np.float32)[:, None, None]
    sky = zenith + (skyline - zenith) * down**1.3
    x = np.linspace(-1, 1, 56, dtype=np.float32)[None, :, None] - mood.sun[0] * 1.2
    near_sun = np.exp(-3 * (x * x + (1 - down - mood.sun[1] * 1.2) ** 2)) * (mood.sun[2] > 0)
    sky = sky + near_sun * np.array((*mood.sunlight, 0), np.float32) * 60
    noise = (_fractal(rng, 20, 56, (4, 9, 18)) * 0.8 + (mood.clouds - 0.5))[..., None]
    cover = np.clip(noise * 2.6, 0, 1) * (1 - 0.55 * down)
    light = np.array((*mood.sunlight, 0), np.float32) * 120
    cloud = skyline * 0.5 + np.array((*mood.ambient, 0), np.float32) * 78 + light * np.clip(1.0 - noise * 1.5, 0.2, 1)
    sky += (cloud - sky) * cover
    sky = np.clip(sky, 0, 255).astype(np.uint8)
    sky[..., 3] = _SKY
    cv2.resize(sky, (width, row), dst=canvas[:row], interpolation=cv2.INTER_LINEAR)
    cv2.rectangle(canvas, (0, row), (width, height), (100, 100, 102, _ROAD), cv2.FILLED)
    far = tuple(0.85 * value for value in mood.skyline)  # the last strip of ground is lost in the air
    cv2.rectangle(canvas, (0, row), (width, row + height // 50), (*far, _ROAD), cv2.FILLED)


def _paint_meshes(canvas: np.ndarray, scene: Scene) -> None:
    height, width = canvas.shape[:2]
    order = sorted(scene.meshes, key=lambda entry: -entry[0])
    meshes = [mesh for _, mesh, _, _ in order]
    rows = [len(palette) for _, _, palette, _ in order]
    numbers = chain.from_iterable(chain.from_iterable(palette for _, _, palette, _ in order))
    palette = np.fromiter(numbers, np.float32).reshape(-1, 6)
    faces = [len(mesh.sizes) for mesh in meshes]
    slots = np.concatenate([mesh.slots for mesh in meshes]) + np.repeat(np.cumsum(rows) - rows, faces)
    places = np.array([place for _, _, _, place in order], np.float32)
    points = _transform(meshes, places)
    mirrored = np.repeat(np.sign(places[:, 0] * places[:, 2]), faces)
    ends = np.cumsum(np.concatenate([mesh.sizes for mesh in meshes]))
    starts = np.concatenate([[0], ends[:-1]])
    corners = scene.camera.project(points, height, width)
    left, top = (np.minimum.reduceat(axis, starts) for axis in corners)
    right, bottom = (np.maximum.reduceat(axis, starts) for axis in corners)
    seen = (right > 0) & (bottom > 0) & (left < width) & (top < height)
    seen = np.flatnonzero(seen & (right - left > _SLIVER) & (bottom - top > _SLIVER))
    colors, facing = _shade(points, starts[seen], palette[slots[seen]], mirrored[seen], scene)
    seen, colors = seen[facing], colors[facing]
    fixed = _fixed_point(corners, height, width)
    for start, end, color in zip(starts[seen].tolist(), ends[seen].tolist(), colors.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, fixed[start:end], color, cv2.LINE_8, _SHIFT)


def _fixed_point(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(2,N) pixel coordinates -> (N,2) int32 in OpenCV's sub-pixel units, far ones cut off to stay in range."""
    limit = 8 * max(height, width)
    return (np.clip(corners.T - 0.5, -limit, limit) * (1 << _SHIFT)).astype(np.int32)


def _transform(meshes: Sequence[Mesh], places: np.ndarray) -> np.ndarray:
    """(3,N) world coordinates of all corners; ``places`` (M,7) is scale, yaw and position of each mesh."""
    sx, sy, sz, yaw, *at = places.T
    cos, sin = np.cos(yaw), np.sin(yaw)
    each = np.stack([sx * cos, sz * sin, -sx * sin, sz * cos, sy, *at])
    xx, xz, zx, zz, yy, tx, ty, tz = np.repeat(each, [len(mesh.points) for mesh in meshes], axis=1)
    x, y, z = np.concatenate([mesh.points for mesh in meshes]).T
    return np.stack([x * xx + z * xz + tx, y * yy + ty, np.maximum(x * zx + z * zz + tz, _NEAREST)])


def _shade(
    points: np.ndarray, starts: np.ndarray, paint: np.ndarray, mirrored: np.ndarray, scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
    """Lambert light and distance haze: (F,4) colour with class id, and (F,) which polygons may be seen."""
    mood = scene.mood
    corner = points[:, starts]
    (ax, ay, az), (bx, by, bz) = points[:, starts + 2] - corner, points[:, starts + 1] - corner
    normal = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    normal /= np.sqrt((normal * normal).sum(0)) + 1e-9
    eye = np.array([[scene.camera.x], [scene.camera.height], [0]], np.float32) - corner
    side = np.sign((normal * eye).sum(0))
    toward_sun = np.maximum(side * (np.array(mood.sun, np.float32) @ normal), 0)[:, None]
    light = np.array(mood.ambient, np.float32) + toward_sun * np.array(mood.sunlight, np.float32)
    emission = paint[:, 4:5]
    color = paint[:, :3] * (light + emission * (1 - light))
    air = 1 - np.exp(-mood.haze * corner[2])[:, None]
    color += (np.array(mood.skyline, np.float32) - color) * air
    return np.concatenate([np.clip(color, 0, 255), paint[:, 3:4]], axis=1), (side * mirrored > 0) | (paint[:, 5] == 0)


def _light_and_texture(label: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """(H,W,3) factors: surface texture, shadows on the ground, vignette, white balance."""
    height, width = label.shape
    mood = scene.mood
    strength = _TEXTURE / (1 + 40 * mood.haze)
    texture = _fractal(rng, height, width, (128, 40, 12)) * cv2.LUT(label, strength)
    gain = (1 + texture) * _vignette(height, width)
    mask = _shadows(height, width, scene) * cv2.LUT(label, _ON_GROUND)
    rise = max(mood.sun[1], 0.2)
    lost = [s * rise / (s * rise + a) for s, a in zip(mood.sunlight, mood.ambient, strict=True)]
    balance = 1 + 0.05 * (rng.random(3) - 0.5)
    return cv2.merge([gain * (b - (b * loss) * mask) for loss, b in zip(lost, balance.tolist(), strict=True)])


@lru_cache(maxsize=4)
def _vignette(height: int, width: int) -> np.ndarray:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    return 1.04 - 0.09 * (x * x + y * y) ** 1.2


def _shadows(height: int, width: int, scene: Scene) -> np.ndarray:
    """(H,W) uint8, soft; 255 where a block keeps the sun from level ground."""
    x, z, w, h, d = np.array(scene.blocks, np.float32).T
    sx, sy, sz = scene.mood.sun
    reach = h / max(sy, 0.25)
    cx = np.stack([x - w / 2, x + w / 2, x + w / 2, x - w / 2], 1)
    cz = np.stack([z - d / 2, z - d / 2, z + d / 2, z + d / 2], 1)
    cx = np.concatenate([cx, cx - (sx * reach)[:, None]], 1)
    cz = np.maximum(np.concatenate([cz, cz - (sz * reach)[:, None]], 1), 1.5)
    corners = scene.camera.project(np.stack([cx.ravel(), 0 * cx.ravel(), cz.ravel()]), height, width)
    corners = _fixed_point(corners, height, width).reshape(-1, 8, 2)
    mask = np.zeros((height, width), np.uint8)
    for block in corners:
        cv2.fillConvexPoly(mask, cv2.convexHull(block), 255, cv2.LINE_8, _SHIFT)
    soft = height // 64 * 2 + 1
    return cv2.blur(mask, (soft, soft))


def _weather(image: np.ndarray, label: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Glow of lamps after dark; in rain a wet road that mirrors what stands on it, and streaks."""
    if scene.glows:
        image = cv2.add(image, _halos(label.shape[0], label.shape[1], scene))
    if scene.mood.rain:
        height, width = label.shape
        row = scene.camera.horizon_row(height, width)
        above = cv2.resize(image[max(0, 2 * row - height) : row][::-1], (width, height - row))
        mirror = cv2.blur(above, (max(1, width // 64), max(1, height // 10)))
        wet = cv2.addWeighted(image[row:], 0.72, mirror, 0.28, 0)
        cv2.copyTo(wet, (label[row:] == _ROAD).view(np.uint8), image[row:])
        image = cv2.add(image, cv2.cvtColor(_streaks(height, width, scene.mood.rain, rng), cv2.COLOR_GRAY2RGB))
    return image


def _halos(height: int, width: int, scene: Scene) -> np.ndarray:
    small = np.zeros((max(height // 4, 4), max(width // 4, 4), 3), np.uint8)
    lamps = np.array(scene.glows, np.float32)
    spots = scene.camera.project(lamps[:, :3].T, *small.shape[:2]).T.round().astype(int).tolist()
    for spot, z, color in zip(spots, lamps[:, 2].tolist(), lamps[:, 3:].tolist(), strict=True):
        cv2.circle(small, spot, max(1, round(small.shape[0] * 0.5 / z)), color, cv2.FILLED)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), small.shape[0] / 16), (width, height))


def _streaks(height: int, width: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    top = rng.random((110, 2)) * (width, height)
    drop = (rng.random((110, 1)) * (0.01, 0.05) + (0, 0.03)) * height
    lines = (np.stack([top, top + drop], 1) * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(mask, list(lines), False, int(60 * strength), max(1, height // 300), cv2.LINE_AA, _SHIFT)
    return mask
