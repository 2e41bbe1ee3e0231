"""The brief look at a data set before every fit."""

from __future__ import annotations

from src.data.audit import audit
from src.data.checkup import Checkup, checkup, known_checkup, summary
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import Source
from src.data.leaks import known_leak
from src.data.split_findings import leak_problem, size_problem
from src.errors import UserError

__all__ = ["before_fit", "preflight"]

_OFF = "preflight=false trains all the same"


def before_fit(datamodule: SegmentationDataModule) -> str:
    """Looks at what training and validation will read; one line says how closely.

    Where ``src.doctor`` has read the very same files, nothing is read again, and what it found counts.

    Raises:
        UserError: the first problem.
    """
    train, val = (_looked_at(datamodule, stage) for stage in ("train", "val"))
    counts = {name: (found.looked_at, found.total) for name, (_, found) in (train | val).items()}
    whole = all(some == every for some, every in counts.values())
    for name, (source, found) in val.items():
        problems = []
        if datamodule.eval_transform is None:
            problems.append(size_problem(name, found, datamodule.eval_batch_size))
        for other, (shown, _) in train.items():
            leak = known_leak(shown, source) if whole and name not in train else None
            problems.append(leak and leak_problem(other, name, leak))
        for problem in filter(None, problems):
            raise UserError(f"{problem}; {_OFF}")
    skipped = sum(len(getattr(source, "left_out", ())) for source, _ in (train | val).values())
    line = f"labels checked: {', '.join(f'{name} {some} of {every}' for name, (some, every) in counts.items())}"
    line += f"; {skipped} images without a mask are left out" if skipped else ""
    return line if whole else f"{line}; python -m src.doctor with the same data options reads all"


def _looked_at(datamodule: SegmentationDataModule, stage: str) -> dict[str, tuple[Source, Checkup]]:
    """Split -> source and what it shows."""
    extra = datamodule.sampler.extra if stage == "train" else ()
    names = [*(datamodule.splits.get(stage) or ()), *extra]
    return {name: (source, preflight(source)) for name, source in zip(names, datamodule.sources(stage), strict=True)}


def preflight(source: Source, limit: int = 16) -> Checkup:
    """Raise the first problem of a source: that of its last full audit, or what an evenly spread sample shows.

    A sample that shows one class only is no proof, so then every label is looked at before judging.

    Raises:
        UserError: the first of ``Checkup.problems``, or that there is no label at all.
    """
    found = known_checkup(source)
    if found is None:
        sample = audit(source, limit)
        doubtful = sample.nothing_to_learn and sample.looked_at < sample.total
        found = checkup(source) if doubtful else summary(sample)
    if found.problems:
        raise UserError(found.problems[0])
    if not found.labelled:
        raise UserError(
            f"none of {found.looked_at} samples looked at has a label; name a labelled split in data.splits"
        )
    return found
