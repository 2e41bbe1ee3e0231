"""Lays out a toy street: ground, skyline, houses, what lines the kerbs, then its traffic.

Draws come from one ``random.Random`` in a fixed order and none depends on the size in pixels, so that a seed is one
street at any resolution. Distances along the street are called z, distances from its middle x, both in metres.
"""

from __future__ import annotations

import math
from random import Random

from ...label_space import IGNORE_INDEX
from . import meshes
from .scene import (
    BARK,
    BICYCLIST,
    BUILDING,
    CAR,
    FENCE,
    HAIR,
    LEAVES,
    PAVEMENT,
    PEDESTRIAN,
    PLASTER,
    POLE,
    ROAD,
    ROOFS,
    SIGN,
    SKIN,
    STEEL,
    STONE,
    TREE,
    Material,
    Plan,
    Scene,
    dim,
    material,
)  # fmt: skip

__all__ = ["street"]

_LINES = ((240, 238, 232), (240, 238, 232), (240, 200, 110))
_LAMPLIGHT = ((255, 214, 138), (252, 192, 110), (236, 228, 196))
_RED, _WHITE, _BLUE, _BLACK, _YELLOW, _GREEN = (
    (196, 34, 38), (240, 238, 232), (34, 88, 172), (40, 40, 44), (246, 208, 66), (38, 118, 72)
)  # fmt: skip
_SIGN_SCHEMES = (  # rim, field, mark for each of SIGNS
    ((_RED, _WHITE, _BLACK), (_WHITE, _BLUE, _WHITE), (_RED, _RED, _WHITE)),
    ((_RED, _WHITE, _BLACK), (_RED, _YELLOW, _BLACK)),
    ((_WHITE, _BLUE, _WHITE), (_WHITE, _GREEN, _WHITE), (_BLACK, _WHITE, _BLACK)),
    ((_WHITE, _BLUE, _WHITE), (_BLACK, _YELLOW, _BLACK), (_BLACK, _WHITE, _BLACK)),
)
_TYRE = (30, 30, 32)
_CAR_PARTS = (  # colour and emission of glass, black, metal, tail light, head light, plate
    ((62, 74, 90), 0.35),
    (_TYRE, 0.0),
    ((156, 158, 160), 0.0),
    ((170, 26, 24), 0.3),
    ((240, 240, 228), 0.2),
    ((226, 224, 210), 0.0),
)


def street(rnd: Random) -> Scene:
    """One scene; the same state of ``rnd`` gives the same scene."""
    plan = Plan(rnd)
    _ground(plan)
    _markings(plan)
    _skyline(plan)
    for side in (-1, 1):
        _houses(plan, side)
        _kerb(plan, side)
        _vehicles(plan, side)
    _people(plan)
    _cyclists(plan)
    if rnd.random() < 0.25:
        _bonnet(plan)
    return plan.scene


def _ground(plan: Plan) -> None:
    rnd, half, add = plan.rnd, plan.half, plan.scene.add
    asphalt = dim((112, 112, 117), rnd.uniform(0.72, 1.12) * (0.8 if plan.scene.mood.rain else 1))
    stone = plan.paint(STONE)
    add(meshes.STRIPS, [material(stone, PAVEMENT)], (-260, 0, 0), scale=(520, 1, 1), layer=5000)
    add(meshes.STRIPS, [material(asphalt, ROAD)], (-half, 0, 0), scale=(2 * half, 1, 1), layer=4900)
    if plan.crossing < math.inf:
        z = plan.crossing + 4
        add(meshes.ground([(-90, 90, z, z + 8)]), [material(asphalt, ROAD)], layer=4800)
    gutter, rim = [material(dim(asphalt, 0.86), ROAD)], [material(dim(stone, 1.2), PAVEMENT)]
    joint = [material(dim(stone, 0.8), PAVEMENT)]
    for side, walk in plan.walk.items():
        edge = (side * half, 0, 0)
        add(meshes.STRIPS, gutter, edge, scale=(-side * 0.35, 1, 1), layer=4700)
        add(meshes.STRIPS, rim, edge, scale=(side * 0.3, 1, 1), layer=4700)
        add(meshes.JOINTS, joint, edge, scale=(side * (walk + 0.5), 1, 1), layer=4700)


def _markings(plan: Plan) -> None:
    """Centre line, edge lines, and the zebra crossing with its stop line."""
    rnd, half, end = plan.rnd, plan.half, plan.crossing
    boxes = []
    if rnd.random() < 0.85:
        step, dash = rnd.choice(((6.0, 3.0), (9.0, 4.0), (12.0, 12.0)))
        start = rnd.uniform(2.5, 5)
        boxes += [(-0.09, 0.09, start + i * step, start + i * step + dash) for i in range(int(70 / step))]
    for side in (-1, 1):
        inner = side * (half - 2.15 if plan.parked[side] else half - 0.5)
        if rnd.random() < 0.5:
            boxes += [(inner - 0.07, inner + 0.07, a, b) for a, b in ((2.3, 6), (6, 12), (12, 25), (25, 60))]
    boxes = [(a, b, c, min(d, end - 2)) for a, b, c, d in boxes if c < end - 3]
    if end < math.inf:
        boxes += [(i - half + 0.4, i - half + 0.9, end, end + 3) for i in range(int(2 * half - 0.3))]
        boxes.append((0.1, half - 0.3, end - 1.6, end - 1.2))
    if boxes:
        color = rnd.choice(_LINES)
        plan.scene.add(meshes.ground(boxes), [material(color, ROAD)], layer=4000)


def _skyline(plan: Plan) -> None:
    """Roofs and trees where the street ends."""
    rnd, x = plan.rnd, -135.0
    while x < 135:
        width = rnd.uniform(18, 30)
        if rnd.random() < 0.6:
            place = (x + width / 2, -1.0, rnd.uniform(95, 115))
            wall = [material(plan.paint(PLASTER), BUILDING)]
            plan.scene.add(meshes.BLOCK, wall, place, scale=(width * 1.05, rnd.uniform(7, 20), 1), layer=3000)
        else:
            _tree(plan, x + width / 2, rnd.uniform(84, 94), kind="bush", size=rnd.uniform(6, 13), layer=3000)
        x += width * 0.9


def _houses(plan: Plan, side: int) -> None:
    """A row of houses and gardens, left open where a street crosses."""
    rnd, end = plan.rnd, plan.crossing
    line = plan.half + plan.walk[side]
    z, floors = rnd.uniform(3.5, 7), rnd.randint(2, 4)
    while z < 64:
        depth = rnd.uniform(8, 16)
        if end - 3 <= z < end + 13:
            z = end + 13
            continue
        if z < end:
            depth = min(depth, end + 3 - z)
        if rnd.random() < 0.2:
            _garden(plan, side, line, z, z + depth)
        else:
            setback = rnd.choice((0, 0, 0.4, 2.2))
            _house(plan, side, line + setback, z, z + depth, min(6, max(2, floors + rnd.randint(-1, 1))))
            if setback > 2 or rnd.random() < 0.12:
                _fence(plan, side * line, z + 0.2, side * line, z + depth - 0.2)
        z += depth + (0 if rnd.random() < 0.7 else rnd.uniform(1, 3))


def _house(plan: Plan, side: int, line: float, z0: float, z1: float, floors: int) -> None:
    rnd, dark = plan.rnd, plan.scene.mood.dark
    wall = plan.paint(PLASTER)
    trim = dim(wall, rnd.choice((1.25, 1.25, 0.7)))
    bays = max(1, int((z1 - z0) / rnd.uniform(2.4, 3.6)))
    dull, bright, lit = (56, 66, 82), dim(plan.scene.mood.skyline, 0.55), rnd.choice(_LAMPLIGHT)
    colors = (plan.paint(), plan.paint(), plan.paint(ROOFS), dim(wall, 0.7), plan.paint())
    palette = [
        material(wall, BUILDING),
        material(trim, BUILDING),
        material(dull, BUILDING, emission=0.3),
        material(lit, BUILDING, emission=1.0) if dark else material(bright, BUILDING),
        *[material(color, BUILDING, one_sided=color is colors[2]) for color in colors],
    ]
    shop, pitched = rnd.random() < 0.4, rnd.random() < 0.65
    mesh = meshes.building(floors, bays, rnd.randrange(4), shop=shop, pitched=pitched, fine=z0 < 24)
    height = rnd.uniform(2.9, 3.3)
    plan.scene.add(mesh, palette, (side * line, 0, z0), scale=(side * 9, height, z1 - z0), layer=1000)
    plan.scene.shade(side * (line + 4), (z0 + z1) / 2, 8, height * floors, z1 - z0)


def _garden(plan: Plan, side: int, line: float, z0: float, z1: float) -> None:
    """A gap between houses: a wall far back, trees, a fence along the pavement."""
    rnd = plan.rnd
    wall = [material(plan.paint(PLASTER), BUILDING)]
    plan.scene.add(meshes.BLOCK, wall, (side * (line + 16), 0, z1 + 6), scale=(26, rnd.uniform(5, 9), 1), layer=1000)
    for _ in range(2):
        _tree(plan, side * (line + rnd.uniform(2, 6)), rnd.uniform(z0, z1), layer=1000)
    _tree(plan, side * (line + rnd.uniform(1, 4)), rnd.uniform(z0, z1), kind="bush", layer=1000)
    if rnd.random() < 0.85:
        _fence(plan, side * line, z1, side * (line + 8), z1, layer=1000)
        _fence(plan, side * line, z0, side * line, z1)


def _fence(
    plan: Plan, x0: float, z0: float, x1: float, z1: float, *, barrier: bool = False, layer: float = 500
) -> None:
    """A fence from (x0, z0) to (x1, z1), or a red and white barrier."""
    rnd = plan.rnd
    color, length = plan.paint(), math.hypot(x1 - x0, z1 - z0)
    if barrier:
        style, height, lines, posts, color = "barrier", 1.1, (214, 60, 44), dim(color, 0.8), (236, 232, 224)
    else:
        style, height = rnd.choice(("planks", "railing")), rnd.uniform(1.2, 1.8)
        lines, posts = dim(color, rnd.choice((0.62, 1.35))), dim(color, 0.85)
    mesh = meshes.fence(max(2, round(length / 2)), style, fine=z0 < 24)
    palette = [material(paint, FENCE) for paint in (color, lines, posts)]
    turn = math.atan2(z0 - z1, x1 - x0)
    plan.scene.add(mesh, palette, (x0, 0, z0), scale=(length, height, 1), yaw=turn, layer=layer)
    plan.scene.shade((x0 + x1) / 2, (z0 + z1) / 2, abs(x1 - x0) + 0.2, height, abs(z1 - z0) + 0.2)


def _tree(plan: Plan, x: float, z: float, *, kind: str = "", size: float = 0.0, layer: float = 0.0) -> None:
    """A tree of any or the given ``kind`` (see ``meshes.tree``) and height."""
    rnd = plan.rnd
    kind = kind or rnd.choice(("round", "round", "round", "conical"))
    height = size or (rnd.uniform(1.2, 2.6) if kind == "bush" else rnd.uniform(4.5, 8))
    radius = height * {"bush": rnd.uniform(0.6, 0.9), "round": rnd.uniform(0.3, 0.42), "conical": 0.28}[kind]
    leaf, bark = plan.paint(LEAVES), plan.paint(BARK)
    palette = [material(color, TREE) for color in (dim(bark, 0.75), dim(bark, 1.2))]
    palette += [material(dim(leaf, shade), TREE) for shade in (0.66, 1.0, 1.38)]
    mesh = meshes.tree(kind, rnd.randrange(12), (z < 40) + (z < 17))
    plan.scene.add(mesh, palette, (x, 0, z), scale=(rnd.choice((-1, 1)) * radius, height, 1), layer=layer)
    if z < 60:
        plan.scene.shade(x, z, radius * 1.5, height * 0.9, 1.5)


def _kerb(plan: Plan, side: int) -> None:
    """Lamps, signs, trees, barriers and bins behind the kerb, and the crossing's traffic light."""
    rnd, end = plan.rnd, plan.crossing
    x, z = side * (plan.half + rnd.uniform(0.55, 0.8)), rnd.uniform(7.5, 10)
    while z < 46:
        if abs(z - end - 5.5) < 7:
            z = end + 12.6
        kind = rnd.choices(("lamp", "sign", "tree", "bin", "barrier"), (0.26, 0.26, 0.28, 0.06, 0.14))[0]
        if kind == "lamp":
            _lamp(plan, x, z)
        elif kind == "sign":
            _sign(plan, x, min(z, 34.0))
        elif kind == "tree":
            _tree(plan, x + side * 0.3, z)
        elif kind == "barrier":
            _fence(plan, x - side * 0.3, z, x - side * 0.3, z + rnd.uniform(3, 6), barrier=True, layer=0)
        else:
            paint = plan.paint()
            plan.scene.add(meshes.BIN, [material(dim(paint, shade), IGNORE_INDEX) for shade in (1, 0.7)], (x, 0, z))
        z += rnd.uniform(2.2, 5) + 0.12 * z
    if end < math.inf:
        _traffic_light(plan, x, end - 0.6)


def _post(plan: Plan, x: float, z: float, height: float, width: float) -> list[Material]:
    """A pole, about three pixels wide in 128 rows at least, that a net of stride 8 can see; returns its palette."""
    steel = plan.paint(STEEL)
    palette = [material(steel, POLE), material(dim(steel, 1.45), POLE)]
    plan.scene.add(meshes.POST, palette, (x, 0, z), scale=(max(width, 0.0185 * z), height, 1))
    plan.scene.shade(x, z, 0.3, height)
    return palette


def _lamp(plan: Plan, x: float, z: float) -> None:
    height, side, dark = plan.rnd.uniform(4.5, 7.5), math.copysign(1, x), plan.scene.mood.dark
    steel = _post(plan, x, z, height, 0.17)
    light = material((255, 232, 176), POLE, emission=1.0) if dark else material((228, 228, 216), POLE)
    size = max(1.0, 0.06 * z)
    plan.scene.add(meshes.ARM, [*steel, light], (x, height, z), scale=(-side * plan.rnd.uniform(0.7, 1.2), size, 1))
    if dark:
        plan.scene.glow(x - side, height, z, (255, 190, 110))


def _sign(plan: Plan, x: float, z: float) -> None:
    rnd, kind = plan.rnd, plan.rnd.randrange(4)
    height, radius = rnd.uniform(2.2, 2.9), max(rnd.uniform(0.36, 0.5), 0.021 * z)
    palette = [material(color, SIGN) for color in rnd.choice(_SIGN_SCHEMES[kind])]
    _post(plan, x, z, height, 0.12)
    plan.scene.add(meshes.SIGNS[kind], palette, (x, height, z - 0.02), scale=(radius, radius, 1))
    if rnd.random() < 0.3:
        below = (x, height - radius * 1.7, z - 0.02)
        plan.scene.add(meshes.SIGNS[3], palette, below, scale=(radius * 0.7, radius * 0.6, 1))


def _traffic_light(plan: Plan, x: float, z: float) -> None:
    lit, size = plan.rnd.randrange(3), max(1.1, 0.06 * z)
    height = 2.5 + size / 2
    burning = ((255, 60, 40), (255, 190, 60), (70, 240, 130))[lit]
    palette = [material(color, SIGN) for color in ((70, 72, 74), (36, 38, 40), (60, 52, 50))]
    _post(plan, x, z, height, 0.15)
    palette.append(material(burning, SIGN, emission=1.0))
    plan.scene.add(meshes.TRAFFIC_LIGHTS[lit], palette, (x, height, z - 0.02), scale=(size, size, 1))
    if plan.scene.mood.dark:
        plan.scene.glow(x, height, z, dim(burning, 0.5))


def _car(plan: Plan, x: float, z: float, *, oncoming: bool) -> None:
    rnd, dark = plan.rnd, plan.scene.mood.dark
    kind, paint = rnd.choices(range(4), (0.34, 0.28, 0.22, 0.16))[0], plan.paint()
    rows = [(paint, 0.0), *_CAR_PARTS, (dim(paint, 0.62), 0.0)]
    if dark:
        rows[4:6] = [(color, 0.95) for color, _ in rows[4:6]]  # lights on
    palette = [material(color, CAR, emission=own, one_sided=True) for color, own in rows]
    turn = math.pi * oncoming + rnd.uniform(-0.04, 0.04)
    plan.scene.add(meshes.CARS[kind], palette, (x, 0, z), yaw=turn)
    plan.scene.shade(x, z, 1.8, 1.2, 4.2)
    plan.scene.shade(x, z, 1.9, 0.0, 4.4)  # the dark gap beneath, in any light
    if dark and oncoming:
        for side in (-0.7, 0.7):
            plan.scene.glow(x + side, 0.7, z - 2.1, (200, 190, 160))


def _vehicles(plan: Plan, side: int) -> None:
    """Cars that drive, towards the camera on the left, and cars that park."""
    rnd, half = plan.rnd, plan.half
    lane, z = half - 2.0 * plan.parked[side], plan.distance(9, 40)
    for _ in range(rnd.choices((0, 1, 2), (0.3, 0.5, 0.2))[0]):
        _car(plan, side * lane * rnd.uniform(0.42, 0.58), z, oncoming=side < 0)
        z += rnd.uniform(9, 22)
    z = rnd.uniform(7, 13)
    while plan.parked[side] and z < 50:
        if abs(z - plan.crossing - 5) > 10 and rnd.random() < 0.72:
            _car(plan, side * (half - 1.05), z, oncoming=(side < 0) != (rnd.random() < 0.1))
        z += rnd.uniform(5.4, 7)


def _person(plan: Plan, x: float, z: float) -> None:
    rnd = plan.rnd
    top = plan.paint()
    sleeves = dim(top, 0.86) if rnd.random() < 0.7 else plan.paint(SKIN)
    colors = (plan.paint(), (50, 44, 42), top, sleeves, plan.paint(SKIN), plan.paint(HAIR), plan.paint())
    size = rnd.uniform(0.92, 1.08) if rnd.random() < 0.88 else rnd.uniform(0.62, 0.75)
    palette = [material(color, PEDESTRIAN) for color in colors]
    plan.scene.add(rnd.choice(meshes.PEOPLE), palette, (x, 0, z), scale=(size * rnd.choice((-1.1, 1.1)), size, 1))
    plan.scene.shade(x, z, 0.5, 1.7 * size)


def _people(plan: Plan) -> None:
    """Walkers on the pavements, alone or in pairs, and on the zebra crossing."""
    rnd, half = plan.rnd, plan.half
    for _ in range(rnd.choices(range(5), (0.06, 0.2, 0.3, 0.26, 0.18))[0]):
        side, z = rnd.choice((-1, 1)), plan.distance(8, 24)
        x = side * (half + rnd.uniform(0.9, plan.walk[side] - 0.3))
        _person(plan, x, z)
        if rnd.random() < 0.35:
            _person(plan, x + rnd.choice((-0.7, 0.7)), z + rnd.uniform(-0.4, 0.4))
    if plan.crossing < math.inf and rnd.random() < 0.7:
        for _ in range(rnd.randint(1, 3)):
            _person(plan, rnd.uniform(-half, half), plan.crossing + rnd.uniform(0.6, 2.6))


def _cyclists(plan: Plan) -> None:
    """Up to two of them, along the kerb or across the road."""
    rnd, half = plan.rnd, plan.half
    for _ in range(rnd.choices((0, 1, 2), (0.28, 0.48, 0.24))[0]):
        top, spokes = plan.paint(), dim((124, 126, 128), rnd.uniform(0.7, 1.2))
        person = (plan.paint(), plan.paint(), top, dim(top, 0.85), plan.paint(SKIN), plan.paint())
        palette = [material(color, BICYCLIST) for color in (_TYRE, spokes, *person)]
        across, z, side = rnd.random() < 0.45, plan.distance(7.5, 20), rnd.choice((-1, 1))
        along = side * (half - 2.5 * plan.parked[side] - rnd.uniform(0.6, 1.1))
        x, turn = (rnd.uniform(-half, half), rnd.uniform(-0.6, 0.6)) if across else (along, 0.0)
        plan.scene.add(meshes.CYCLISTS[across], palette, (x, 0, z), scale=(rnd.choice((-1.1, 1.1)), 1.08, 1), yaw=turn)
        plan.scene.shade(x, z, 1.5 if across else 0.5, 1.6, 0.4 if across else 1.4)


def _bonnet(plan: Plan) -> None:
    """The bonnet of the car that the camera is in: not labelled."""
    camera, z = plan.scene.camera, 1.6
    top = camera.height - z * (1 - camera.horizon - plan.rnd.uniform(0.04, 0.09)) / camera.focal
    paint = plan.paint()
    palette = [material(dim(paint, 1.25), IGNORE_INDEX), material(paint, IGNORE_INDEX)]
    plan.scene.add(meshes.BONNET, palette, (camera.x - camera.yaw * z / camera.focal, top, z), layer=-10)
