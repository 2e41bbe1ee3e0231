"""Lays out a toy street: ground, skyline, houses, what lines the kerbs, then its traffic.

Draws come from one ``random.Random`` in a fixed order and none depends on the size in pixels, so that a seed is one
street at any resolution. Distances along the street are called z, distances from its middle x, both in metres.
"""

from __future__ import annotations

import math
from random import Random

from src.data.sets.toy.builders import building
from src.data.sets.toy.kerb import kerb, place_fence, place_tree
from src.data.sets.toy.plan import BUILDING, PAVEMENT, PLASTER, ROAD, ROOFS, STONE, Plan, dim
from src.data.sets.toy.scene import Scene, material
from src.data.sets.toy.shapes import BLOCK, JOINTS, STRIPS, ground
from src.data.sets.toy.traffic import bonnet, cyclists, people, vehicles

__all__ = ["street"]

_LINES = ((240, 238, 232), (240, 238, 232), (240, 200, 110))
_LAMPLIGHT = ((255, 214, 138), (252, 192, 110), (236, 228, 196))


def street(rnd: Random) -> Scene:
    """One scene; the same state of ``rnd`` gives the same scene."""
    plan = Plan(rnd)
    _ground(plan)
    _markings(plan)
    _skyline(plan)
    for side in (-1, 1):
        _houses(plan, side)
        kerb(plan, side)
        vehicles(plan, side)
    people(plan)
    cyclists(plan)
    if rnd.random() < 0.25:
        bonnet(plan)
    return plan.scene


def _ground(plan: Plan) -> None:
    rnd, half, add = plan.rnd, plan.half, plan.scene.add
    asphalt = dim((112, 112, 117), rnd.uniform(0.72, 1.12) * (0.8 if plan.scene.mood.rain else 1))
    stone = plan.paint(STONE)
    add(STRIPS, [material(stone, PAVEMENT)], (-260, 0, 0), scale=(520, 1, 1), layer=5000)
    add(STRIPS, [material(asphalt, ROAD)], (-half, 0, 0), scale=(2 * half, 1, 1), layer=4900)
    if plan.crossing < math.inf:
        z = plan.crossing + 4
        add(ground([(-90, 90, z, z + 8)]), [material(asphalt, ROAD)], layer=4800)
    gutter, rim = [material(dim(asphalt, 0.86), ROAD)], [material(dim(stone, 1.2), PAVEMENT)]
    joint = [material(dim(stone, 0.8), PAVEMENT)]
    for side, walk in plan.walk.items():
        edge = (side * half, 0, 0)
        add(STRIPS, gutter, edge, scale=(-side * 0.35, 1, 1), layer=4700)
        add(STRIPS, rim, edge, scale=(side * 0.3, 1, 1), layer=4700)
        add(JOINTS, joint, edge, scale=(side * (walk + 0.5), 1, 1), layer=4700)


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
        plan.scene.add(ground(boxes), [material(color, ROAD)], layer=4000)


def _skyline(plan: Plan) -> None:
    """Roofs and trees where the street ends."""
    rnd, x = plan.rnd, -135.0
    while x < 135:
        width = rnd.uniform(18, 30)
        if rnd.random() < 0.6:
            place = (x + width / 2, -1.0, rnd.uniform(95, 115))
            wall = [material(plan.paint(PLASTER), BUILDING)]
            plan.scene.add(BLOCK, wall, place, scale=(width * 1.05, rnd.uniform(7, 20), 1), layer=3000)
        else:
            place_tree(plan, x + width / 2, rnd.uniform(84, 94), kind="bush", size=rnd.uniform(6, 13), layer=3000)
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
                place_fence(plan, side * line, z + 0.2, side * line, z + depth - 0.2)
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
    mesh = building(floors, bays, rnd.randrange(4), shop=shop, pitched=pitched, fine=z0 < 24)
    height = rnd.uniform(2.9, 3.3)
    plan.scene.add(mesh, palette, (side * line, 0, z0), scale=(side * 9, height, z1 - z0), layer=1000)
    plan.scene.shade(side * (line + 4), (z0 + z1) / 2, 8, height * floors, z1 - z0)


def _garden(plan: Plan, side: int, line: float, z0: float, z1: float) -> None:
    """A gap between houses: a wall far back, trees, a fence along the pavement."""
    rnd = plan.rnd
    wall = [material(plan.paint(PLASTER), BUILDING)]
    plan.scene.add(BLOCK, wall, (side * (line + 16), 0, z1 + 6), scale=(26, rnd.uniform(5, 9), 1), layer=1000)
    for _ in range(2):
        place_tree(plan, side * (line + rnd.uniform(2, 6)), rnd.uniform(z0, z1), layer=1000)
    place_tree(plan, side * (line + rnd.uniform(1, 4)), rnd.uniform(z0, z1), kind="bush", layer=1000)
    if rnd.random() < 0.85:
        place_fence(plan, side * line, z1, side * (line + 8), z1, layer=1000)
        place_fence(plan, side * line, z0, side * line, z1)
