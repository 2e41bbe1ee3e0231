"""One sentence on what is plainly wrong with a run, from its files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..files.project import as_called
from .run_folder import Run

__all__ = ["closing_sentence", "remark"]

_FEW_STEPS = 1000
_NAMED = 3  # classes
_POINT = 0.01  # of mean IoU
_BLANK = np.empty((2, 0))


def remark(run: Run) -> str | None:
    """The closing sentence of a run folder; ``None`` where nothing is wrong, or only part of the images was used."""
    if not run.scores or any(run.select("trainer", f"limit_{stage}_batches") == 1 for stage in ("train", "test")):
        return None
    content = run.scores[0].content
    return closing_sentence(
        content.get("classes") or [],
        np.array(content.get("confusion_matrix") or []),
        steps=run.last_step,
        val=run.curves.get("val/miou", _BLANK)[1],
        loss=run.curves.get("train/loss", _BLANK)[1],
    )


def closing_sentence(
    classes: Sequence[str], matrix: np.ndarray, *, steps: int = 0, val: Sequence[float] = (), loss: Sequence[float] = ()
) -> str | None:
    """What is wrong and what to do about it; ``None`` where nothing is.

    Args:
        classes: names.
        matrix: (K,K) pixels, rows truth, columns prediction.
        steps: of the optimiser; 0 for an evaluation, of which nothing about training is said.
        val: mean IoU of each validation, 0..1, in order.
        loss: training loss, in order.
    """
    missing = _missing(classes, matrix)
    rising = len(val) >= 3 and np.argmax(val) == len(val) - 1 and val[-1] - val[-1 - len(val) // 3] > _POINT
    falling = len(val) >= 3 and np.argmax(val) == 0 and val[0] - val[-1] > _POINT
    fifth = len(loss) // 5
    stuck = fifth >= 2 and np.mean(loss[-fifth:]) > 0.98 * np.mean(loss[:fifth])
    few = 0 < steps < _FEW_STEPS and (missing or rising)
    wrong = {
        missing: bool(missing),
        "the training loss did not fall": stuck,
        "the first validation was the best": falling,
        "validation was still getting better at the end": rising,
        f"{steps} steps are few": few,
    }
    if stuck or falling:
        remedy = as_called("try a lower optimizer.lr, and look at the labels with src.doctor")
    elif few or rising:
        remedy = "train longer (trainer.max_epochs=), or start from trained weights (init_from=)"
    else:
        remedy = "weigh classes (data.class_weights=sqrt_median_frequency), or train longer"
    found = [words for words, applies in wrong.items() if applies]
    return f"note: {', and '.join(found)}; {remedy}" if found else None


def _missing(classes: Sequence[str], matrix: np.ndarray) -> str:
    """Classes that the truth has and no prediction, in words."""
    if not matrix.size or len(matrix) != len(classes):  # a file without one of them, or without both
        return ""
    predicted, truth = matrix.sum(0), matrix.sum(1)
    missing = [name for name, found, there in zip(classes, predicted, truth, strict=True) if there and not found]
    if np.count_nonzero(predicted) == 1 and missing:
        return f"only {classes[int(predicted.argmax())]} was ever predicted"
    if len(missing) < 2:
        return f"{missing[0]} was never predicted" if missing else ""
    names, rest = missing[:_NAMED], len(missing) - _NAMED
    if rest > 0:
        names.append(f"{rest} more")
    return f"{', '.join(names[:-1])} and {names[-1]} were never predicted"
