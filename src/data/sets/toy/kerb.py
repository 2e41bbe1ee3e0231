"""What lines the kerbs of a toy street: lamps, signs, traffic lights, trees, fences, barriers and bins."""

from __future__ import annotations

import math

from src.data.label_space import IGNORE_INDEX
from src.data.sets.toy.builders import fence, tree
from src.data.sets.toy.plan import BARK, FENCE, LEAVES, POLE, SIGN, STEEL, TREE, Plan, dim
from src.data.sets.toy.scene import Material, material
from src.data.sets.toy.shapes import ARM, BIN, POST, SIGNS, TRAFFIC_LIGHTS

__all__ = ["kerb", "place_fence", "place_tree"]

_RED, _WHITE, _BLUE, _BLACK, _YELLOW, _GREEN = (
    (196, 34, 38), (240, 238, 232), (34, 88, 172), (40, 40, 44), (246, 208, 66), (38, 118, 72)
)  # fmt: skip
_SIGN_SCHEMES = (  # rim, field, mark for each of SIGNS
    ((_RED, _WHITE, _BLACK), (_WHITE, _BLUE, _WHITE), (_RED, _RED, _WHITE)),
    ((_RED, _WHITE, _BLACK), (_RED, _YELLOW, _BLACK)),
    ((_WHITE, _BLUE, _WHITE), (_WHITE, _GREEN, _WHITE), (_BLACK, _WHITE, _BLACK)),
    ((_WHITE, _BLUE, _WHITE), (_BLACK, _YELLOW, _BLACK), (_BLACK, _WHITE, _BLACK)),
)


def place_fence(
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
    mesh = fence(max(2, round(length / 2)), style, fine=z0 < 24)
    palette = [material(paint, FENCE) for paint in (color, lines, posts)]
    turn = math.atan2(z0 - z1, x1 - x0)
    plan.scene.add(mesh, palette, (x0, 0, z0), scale=(length, height, 1), yaw=turn, layer=layer)
    plan.scene.shade((x0 + x1) / 2, (z0 + z1) / 2, abs(x1 - x0) + 0.2, height, abs(z1 - z0) + 0.2)


def place_tree(plan: Plan, x: float, z: float, *, kind: str = "", size: float = 0.0, layer: float = 0.0) -> None:
    """A tree of any or the given ``kind`` (see ``builders.tree``) and height."""
    rnd = plan.rnd
    kind = kind or rnd.choice(("round", "round", "round", "conical"))
    height = size or (rnd.uniform(1.2, 2.6) if kind == "bush" else rnd.uniform(4.5, 8))
    radius = height * {"bush": rnd.uniform(0.6, 0.9), "round": rnd.uniform(0.3, 0.42), "conical": 0.28}[kind]
    leaf, bark = plan.paint(LEAVES), plan.paint(BARK)
    palette = [material(color, TREE) for color in (dim(bark, 0.75), dim(bark, 1.2))]
    palette += [material(dim(leaf, shade), TREE) for shade in (0.66, 1.0, 1.38)]
    mesh = tree(kind, rnd.randrange(12), (z < 40) + (z < 17))
    plan.scene.add(mesh, palette, (x, 0, z), scale=(rnd.choice((-1, 1)) * radius, height, 1), layer=layer)
    if z < 60:
        plan.scene.shade(x, z, radius * 1.5, height * 0.9, 1.5)


def kerb(plan: Plan, side: int) -> None:
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
            place_tree(plan, x + side * 0.3, z)
        elif kind == "barrier":
            place_fence(plan, x - side * 0.3, z, x - side * 0.3, z + rnd.uniform(3, 6), barrier=True, layer=0)
        else:
            paint = plan.paint()
            plan.scene.add(BIN, [material(dim(paint, shade), IGNORE_INDEX) for shade in (1, 0.7)], (x, 0, z))
        z += rnd.uniform(2.2, 5) + 0.12 * z
    if end < math.inf:
        _traffic_light(plan, x, end - 0.6)


def _post(plan: Plan, x: float, z: float, height: float, width: float) -> list[Material]:
    """A pole, about three pixels wide in 128 rows at least, that a net of stride 8 can see; returns its palette."""
    steel = plan.paint(STEEL)
    palette = [material(steel, POLE), material(dim(steel, 1.45), POLE)]
    plan.scene.add(POST, palette, (x, 0, z), scale=(max(width, 0.0185 * z), height, 1))
    plan.scene.shade(x, z, 0.3, height)
    return palette


def _lamp(plan: Plan, x: float, z: float) -> None:
    height, side, dark = plan.rnd.uniform(4.5, 7.5), math.copysign(1, x), plan.scene.mood.dark
    steel = _post(plan, x, z, height, 0.17)
    light = material((255, 232, 176), POLE, emission=1.0) if dark else material((228, 228, 216), POLE)
    size = max(1.0, 0.06 * z)
    plan.scene.add(ARM, [*steel, light], (x, height, z), scale=(-side * plan.rnd.uniform(0.7, 1.2), size, 1))
    if dark:
        plan.scene.glow(x - side, height, z, (255, 190, 110))


def _sign(plan: Plan, x: float, z: float) -> None:
    rnd, kind = plan.rnd, plan.rnd.randrange(4)
    height, radius = rnd.uniform(2.2, 2.9), max(rnd.uniform(0.36, 0.5), 0.021 * z)
    palette = [material(color, SIGN) for color in rnd.choice(_SIGN_SCHEMES[kind])]
    _post(plan, x, z, height, 0.12)
    plan.scene.add(SIGNS[kind], palette, (x, height, z - 0.02), scale=(radius, radius, 1))
    if rnd.random() < 0.3:
        below = (x, height - radius * 1.7, z - 0.02)
        plan.scene.add(SIGNS[3], palette, below, scale=(radius * 0.7, radius * 0.6, 1))


def _traffic_light(plan: Plan, x: float, z: float) -> None:
    lit, size = plan.rnd.randrange(3), max(1.1, 0.06 * z)
    height = 2.5 + size / 2
    burning = ((255, 60, 40), (255, 190, 60), (70, 240, 130))[lit]
    palette = [material(color, SIGN) for color in ((70, 72, 74), (36, 38, 40), (60, 52, 50))]
    _post(plan, x, z, height, 0.15)
    palette.append(material(burning, SIGN, emission=1.0))
    plan.scene.add(TRAFFIC_LIGHTS[lit], palette, (x, height, z - 0.02), scale=(size, size, 1))
    if plan.scene.mood.dark:
        plan.scene.glow(x, height, z, dim(burning, 0.5))
