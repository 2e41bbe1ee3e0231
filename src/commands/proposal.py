"""Options of a first training that suit a data set and a computer, each with its reason."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..cli.overrides import as_typed, name_of, value_of
from ..files.project import as_called

__all__ = ["Given", "command_line", "proposed", "training_overrides"]

_GIB = 2**30
_LONGEST = {"cpu": 640, "gpu": 2048}  # longer side in pixels of an image that is trained on
_LARGEST_CROP = {"cpu": 320, "gpu": 768}
_TOLERATED = 1.25  # times the longest side; a smaller gain is not worth another scale
_STEP = 32  # pixels that crops are a multiple of, as deep maps are 1/32 of them
_RARE_PIXELS, _RARE_LABELS = 0.02, 0.2


@dataclass(frozen=True)
class Given:
    """What a proposal starts from.

    Args:
        overrides: options the user gave.
        images: training images.
        sizes: (width, height, how many) of those that were looked at.
        shares: class -> share (0..1) of the training pixels.
        shown: class -> share (0..1) of the training labels that show it.
        gpu: bytes of the GPU that is trained on; ``None`` for a CPU.
        capable: whether that GPU computes in bfloat16.
        memory: bytes of main memory that are free; ``None`` where that is unknown.
        weighs: whether the loss can weigh classes.
    """

    overrides: Sequence[str]
    images: int
    sizes: Sequence[tuple[int, int, int]]
    shares: Mapping[str, float] = field(default_factory=dict)
    shown: Mapping[str, float] = field(default_factory=dict)
    gpu: int | None = None
    capable: bool = False
    memory: int | None = None
    weighs: bool = True

    @property
    def device(self) -> Literal["cpu", "gpu"]:
        """What is trained on."""
        return "cpu" if self.gpu is None else "gpu"

    def names(self, *options: str) -> bool:
        """Whether the user gave one of these options."""
        return any(name_of(item) in options for item in self.overrides)

    def value(self, option: str) -> str | None:
        """What the user gave for it."""
        return value_of(option, list(self.overrides))


def proposed(given: Given) -> list[tuple[str, str]]:
    """(override, reason) for each option that should differ from its default; what the user gave stays.

    A published recipe is left as it is.
    """
    if given.value("experiment") not in (None, "binary"):
        return []
    found = _scale(given)
    edge = next((int(item.split("=")[1]) for item, _ in found if item.startswith("transforms.long_edge=")), None)
    return [*found, *_crop(given, edge), *_batch(given), *_rare(given), *_precision(given)]


def command_line(given: Given, options: Sequence[str], budget: str | None) -> str:
    """One command for a shell: what the user gave, the options, and the budget unless the length was given."""
    last = [] if budget is None else [f"budget={budget}"]
    if not given.names("logger"):
        last = ["logger=none", *last]
    train = as_called("python -m src.train").split()
    return shlex.join([*train, *map(as_typed, training_overrides(given)), *options, *last])


def training_overrides(given: Given) -> list[str]:
    """What the user gave without the doctor's own options."""
    own = ("limit", "fresh", "measure", "budget")
    return [item for item in given.overrides if name_of(item) not in own]


def _typical(given: Given) -> tuple[int, int]:
    """Width and height of the image in the middle of all by area."""
    ordered = sorted(given.sizes, key=lambda size: size[0] * size[1])
    middle = sum(size[2] for size in ordered) / 2
    for width, height, count in ordered:
        middle -= count
        if middle <= 0:
            return width, height
    return ordered[-1][0], ordered[-1][1]


def _scale(given: Given) -> list[tuple[str, str]]:
    longest, limit = max(_typical(given)), _LONGEST[given.device]
    if given.names("data.eval_long_edge", "transforms.short_side", "inference.long_side"):
        return []
    edge = given.value("transforms.long_edge")
    if edge:
        return [(f"data.eval_long_edge={edge}", "scores are taken at the size that is trained on")]
    if longest <= _TOLERATED * limit:
        return []
    cheaper = (longest / limit) ** 2
    return [
        (f"transforms.long_edge={limit}", f"images of {longest} pixels are shrunk: {cheaper:.1f} times fewer pixels"),
        (f"data.eval_long_edge={limit}", "scores are taken at that size, too"),
    ]


def _crop(given: Given, edge: int | None) -> list[tuple[str, str]]:
    if given.names("data.crop_size", "transforms.crop_size", "transforms.output_size"):
        return []
    width, height = _typical(given)
    factor = 1.0 if edge is None else edge / max(width, height)
    largest = _LARGEST_CROP[given.device]
    crop = [min(largest, max(_STEP, round(side * factor) // _STEP * _STEP)) for side in (height, width)]
    why = "what the images fill" if max(crop) < largest else "as large as this computer trains in good time"
    return [(f"data.crop_size=[{crop[0]},{crop[1]}]", why)]


def _batch(given: Given) -> list[tuple[str, str]]:
    if given.names("data.batch_size"):
        return []
    room = given.memory if given.gpu is None else given.gpu
    batch = 8 if room is None or room >= 8 * _GIB else 4
    if given.gpu is not None and given.gpu >= 20 * _GIB:
        batch = 16
    if given.images < batch:
        return [(f"data.batch_size={given.images}", f"there are {given.images} training images")]
    return [] if batch == 8 else [(f"data.batch_size={batch}", "fits the memory")]


def _rare(given: Given) -> list[tuple[str, str]]:
    found = []
    rare = [name for name, share in given.shares.items() if 0 < share < _RARE_PIXELS]
    if rare and given.weighs and not given.names("data.class_weights", "loss.class_weights"):
        why = f"{', '.join(rare[:3])}{', ...' if len(rare) > 3 else ''}: under 2 % of the pixels"
        found.append(("data.class_weights=sqrt_median_frequency", why))
    seldom = [name for name, share in given.shown.items() if 0 < share < _RARE_LABELS]
    if seldom and not given.names("sampler"):
        why = f"{', '.join(seldom[:3])}{', ...' if len(seldom) > 3 else ''}: in less than a fifth of the labels"
        found.append(("sampler=class_uniform", why))
    return found


def _precision(given: Given) -> list[tuple[str, str]]:
    if not given.capable or given.names("trainer", "trainer.precision"):
        return []
    return [("trainer.precision=bf16-mixed", "about twice as fast on this GPU")]
