"""What moves in a toy street: cars, people, cyclists, and the observer's own bonnet."""

from __future__ import annotations

import math

from src.data.label_space import IGNORE_INDEX
from src.data.sets.toy.figures import BONNET, CARS, CYCLISTS, PEOPLE
from src.data.sets.toy.plan import BICYCLIST, CAR, HAIR, PEDESTRIAN, SKIN, Plan, dim
from src.data.sets.toy.scene import material

__all__ = ["bonnet", "cyclists", "people", "vehicles"]

_TYRE = (30, 30, 32)
_CAR_PARTS = (  # colour and emission of glass, black, metal, tail light, head light, plate
    ((62, 74, 90), 0.35),
    (_TYRE, 0.0),
    ((156, 158, 160), 0.0),
    ((170, 26, 24), 0.3),
    ((240, 240, 228), 0.2),
    ((226, 224, 210), 0.0),
)


def _car(plan: Plan, x: float, z: float, *, oncoming: bool) -> None:
    rnd, dark = plan.rnd, plan.scene.mood.dark
    kind, paint = rnd.choices(range(4), (0.34, 0.28, 0.22, 0.16))[0], plan.paint()
    rows = [(paint, 0.0), *_CAR_PARTS, (dim(paint, 0.62), 0.0)]
    if dark:
        rows[4:6] = [(color, 0.95) for color, _ in rows[4:6]]  # lights on
    palette = [material(color, CAR, emission=own, one_sided=True) for color, own in rows]
    turn = math.pi * oncoming + rnd.uniform(-0.04, 0.04)
    plan.scene.add(CARS[kind], palette, (x, 0, z), yaw=turn)
    plan.scene.shade(x, z, 1.8, 1.2, 4.2)
    plan.scene.shade(x, z, 1.9, 0.0, 4.4)  # the dark gap beneath, in any light
    if dark and oncoming:
        for side in (-0.7, 0.7):
            plan.scene.glow(x + side, 0.7, z - 2.1, (200, 190, 160))


def vehicles(plan: Plan, side: int) -> None:
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
    plan.scene.add(rnd.choice(PEOPLE), palette, (x, 0, z), scale=(size * rnd.choice((-1.1, 1.1)), size, 1))
    plan.scene.shade(x, z, 0.5, 1.7 * size)


def people(plan: Plan) -> None:
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


def cyclists(plan: Plan) -> None:
    """Up to two of them, along the kerb or across the road."""
    rnd, half = plan.rnd, plan.half
    for _ in range(rnd.choices((0, 1, 2), (0.28, 0.48, 0.24))[0]):
        top, spokes = plan.paint(), dim((124, 126, 128), rnd.uniform(0.7, 1.2))
        person = (plan.paint(), plan.paint(), top, dim(top, 0.85), plan.paint(SKIN), plan.paint())
        palette = [material(color, BICYCLIST) for color in (_TYRE, spokes, *person)]
        across, z, side = rnd.random() < 0.45, plan.distance(7.5, 20), rnd.choice((-1, 1))
        along = side * (half - 2.5 * plan.parked[side] - rnd.uniform(0.6, 1.1))
        x, turn = (rnd.uniform(-half, half), rnd.uniform(-0.6, 0.6)) if across else (along, 0.0)
        plan.scene.add(CYCLISTS[across], palette, (x, 0, z), scale=(rnd.choice((-1.1, 1.1)), 1.08, 1), yaw=turn)
        plan.scene.shade(x, z, 1.5 if across else 0.5, 1.6, 0.4 if across else 1.4)


def bonnet(plan: Plan) -> None:
    """The bonnet of the car that the camera is in: not labelled."""
    camera, z = plan.scene.camera, 1.6
    top = camera.height - z * (1 - camera.horizon - plan.rnd.uniform(0.04, 0.09)) / camera.focal
    paint = plan.paint()
    palette = [material(dim(paint, 1.25), IGNORE_INDEX), material(paint, IGNORE_INDEX)]
    plan.scene.add(BONNET, palette, (camera.x - camera.yaw * z / camera.focal, top, z), layer=-10)
