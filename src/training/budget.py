"""A time budget: how many epochs of training fit into it, with the validations between and the test at the end."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass

from ..errors import UserError

__all__ = ["LENGTHS", "Length", "Speed", "check_alone", "fitting_length", "seconds_of", "spell_seconds"]

_RESERVE = 0.1  # of the budget: checkpoints, charts and panels, and steps that turn out slower than those measured
_VALIDATION_SHARE = 0.25  # of an epoch's training time that its validation may take before some are left out
LENGTHS = ("trainer.max_epochs", "trainer.max_steps", "data.max_epochs")
"""Options that give the length of a run."""


@dataclass(frozen=True)
class Speed:
    """Seconds that parts of a run take on this computer.

    Attributes:
        step: from one training batch to the next.
        validation: of the whole validation split.
        test: of the split that is scored at the end, pictures and charts included.
    """

    step: float
    validation: float
    test: float


@dataclass(frozen=True)
class Length:
    """The length of a run.

    Attributes:
        epochs: how many.
        batches: of an epoch, on one device.
        validate_every: epochs from one validation to the next; divides ``epochs``.
    """

    epochs: int
    batches: int
    validate_every: int


def seconds_of(budget: str) -> float:
    """The seconds of ``90s``, ``20m``, ``2h`` or ``1h30m``.

    Raises:
        UserError: for anything else.
    """
    text = str(budget).strip()
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    hours, minutes, seconds = (float(number or 0) for number in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UserError(f"budget={budget} is no length of time; write it like 90s, 20m, 2h or 1h30m")
    return total


def spell_seconds(seconds: float) -> str:
    """``0.35 s`` below a minute, ``0:14:05`` from there on."""
    if seconds >= 60:
        return str(datetime.timedelta(seconds=round(seconds)))
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def check_alone(budget: str | None, overrides: list[str]) -> None:
    """Raise a ``UserError`` if the command line gives the length of a run beside a budget, which chooses it."""
    if budget in (None, "", "null"):
        return
    seconds_of(budget)
    for item in overrides:
        name = item.split("=", 1)[0].lstrip("+~")
        if name in LENGTHS:
            raise UserError(f"budget={budget} chooses the length of the run, and so does {item}; give one of them")
        if name == "resume" and item.split("=", 1)[1] not in ("auto", "null", ""):
            raise UserError(
                f"budget={budget}: a resumed run keeps its own length; leave budget out, or set trainer.max_epochs"
            )


def fitting_length(budget: float, speed: Speed, batches: int) -> Length:
    """The longest run that ends within a budget.

    An epoch that alone takes longer is cut to as many batches as fit. Where validation would take long beside the
    training between two of them, it comes every few epochs; the last epoch always has one.

    Args:
        budget: seconds that are left for training, validation and test.
        speed: of the parts.
        batches: of a whole epoch, on one device.

    Raises:
        UserError: if not even one step fits, with the least budget that would do.
    """
    left = (1 - _RESERVE) * budget - speed.test
    epoch = max(batches * speed.step, 1e-6)
    if left >= epoch + speed.validation:
        every = max(1, math.ceil(speed.validation / (_VALIDATION_SHARE * epoch)))
        every = min(every, int((left - speed.validation) // epoch))  # at least one validation
        rounds = int(left // (every * epoch + speed.validation))
        return Length(rounds * every, batches, every)
    some = int((left - speed.validation) // speed.step)
    if some < 1:
        least = math.ceil((speed.step + speed.validation + speed.test) / (1 - _RESERVE))
        raise UserError(
            f"budget: {spell_seconds(max(0, budget))} are left for training and scoring, and one step, a validation and"
            f" the test take about {spell_seconds(least)}; raise it, or make a step cheaper: transforms.crop_size,"
            " transforms.long_edge with data.eval_long_edge, data.batch_size"
        )
    return Length(1, some, 1)
