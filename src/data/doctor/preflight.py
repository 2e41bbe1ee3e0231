"""The brief look at a data set before every fit."""

from __future__ import annotations

from src.data.augment.random_crop import RandomScaleCrop
from src.data.datamodule import SegmentationDataModule
from src.data.doctor.audit import Checkup, audit, checkup, known_checkup, summary
from src.data.doctor.duplicates import known_leak, linked_leak
from src.data.doctor.split_checks import image_sizes, leak_problem, sizes_differ, too_small
from src.data.source import Source
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
    _check_sizes(datamodule)
    for name, (source, _) in val.items():
        problems = []
        for other, (shown, _) in train.items():
            leak = None if name in train else linked_leak(shown, source)
            leak = leak or (known_leak(shown, source) if whole and name not in train else None)
            problems.append(leak and leak_problem(other, name, leak))
        for problem in filter(None, problems):
            raise UserError(f"{problem}; {_OFF}")
    skipped = sum(len(source.left_out) for source, _ in (train | val).values())
    line = f"labels checked: {', '.join(f'{name} {some} of {every}' for name, (some, every) in counts.items())}"
    line += f"; {skipped} images without a mask are left out" if skipped else ""
    return line if whole else f"{line}; python -m src.doctor with the same data options reads all"


def _looked_at(datamodule: SegmentationDataModule, stage: str) -> dict[str, tuple[Source, Checkup]]:
    """Split -> source and what it shows."""
    return {name: (source, preflight(source)) for name, source in _sources(datamodule, stage).items()}


def _sources(datamodule: SegmentationDataModule, stage: str) -> dict[str, Source]:
    """Split -> source."""
    extra = datamodule.sampler.extra if stage == "train" else ()
    names = [*(datamodule.splits.get(stage) or ()), *extra]
    return dict(zip(names, datamodule.sources(stage), strict=True))


def _check_sizes(datamodule: SegmentationDataModule) -> None:
    """Compares all images with what the options ask of their size; where they ask nothing, no header is read."""
    problems = []
    steps = getattr(datamodule.train_transform, "transforms", ())
    for window in filter(None, [step.largest_window() for step in steps if isinstance(step, RandomScaleCrop)]):
        problems += [
            too_small(name, image_sizes(source), window) for name, source in _sources(datamodule, "train").items()
        ]
    if datamodule.eval_batch_size > 1 and datamodule.eval_transform is None:
        problems += [
            sizes_differ(name, image_sizes(source), datamodule.eval_batch_size)
            for stage in ("val", "test")
            for name, source in _sources_to_score(datamodule, stage).items()
        ]
    for problem in filter(None, problems):
        raise UserError(f"{problem}; {_OFF}")


def _sources_to_score(datamodule: SegmentationDataModule, stage: str) -> dict[str, Source]:
    """Those of ``_sources``; none where a test split cannot be read, without which a run scores val."""
    try:
        return _sources(datamodule, stage)
    except UserError:
        if stage == "test":
            return {}
        raise


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
