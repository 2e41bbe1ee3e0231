"""The brief look at a data set before every fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import albumentations as A

from ...errors import UserError
from ..augment.random_crop import RandomScaleCrop
from ..datamodule import SegmentationDataModule
from ..source import Source
from .audit import AuditSummary, audit, known_audit, remembered_audit, summary
from .duplicates import known_leak, linked_leak
from .split_checks import image_sizes, leak_problem, sizes_differ, too_small

__all__ = ["before_fit", "preflight"]


def before_fit(datamodule: SegmentationDataModule) -> str:
    """Looks at what training and validation will read; one line says how closely.

    Where ``src.doctor`` has read the very same files, nothing is read again, and what it found counts.

    Raises:
        UserError: the first problem.
    """
    train, val = _sources(datamodule, "train"), _sources(datamodule, "val")
    found = {name: preflight(source) for name, source in [*train.items(), *val.items()]}
    whole = all(seen.looked_at == seen.total for seen in found.values())
    problem = next(_size_problems(datamodule), None) or next(_leak_problems(train, val, whole=whole), None)
    if problem is not None:
        raise UserError(f"{problem}; preflight=false trains all the same")
    counts = ", ".join(f"{name} {seen.looked_at} of {seen.total}" for name, seen in found.items())
    skipped = sum(len(source.left_out) for source in {**train, **val}.values())
    left_out = f"; {skipped} images without a mask are left out" if skipped else ""
    advice = "" if whole else "; python -m src.doctor with the same data options reads all"
    return f"labels checked: {counts}{left_out}{advice}"


def _sources(datamodule: SegmentationDataModule, stage: str) -> dict[str, Source]:
    """Split -> source."""
    extra = datamodule.sampler.extra if stage == "train" else ()
    names = [*(datamodule.splits.get(stage) or ()), *extra]
    return dict(zip(names, datamodule.sources(stage), strict=True))


def _leak_problems(train: Mapping[str, Source], val: Mapping[str, Source], *, whole: bool) -> Iterator[str]:
    """Sentences on splits that are validated and share images with one that is trained on.

    Copies are known only where ``src.doctor`` compared the splits before, and count only if all labels were read.
    """
    for scored in [name for name in val if name not in train]:
        for trained, source in train.items():
            leak = linked_leak(source, val[scored]) or (known_leak(source, val[scored]) if whole else None)
            problem = leak_problem(trained, scored, leak) if leak else None
            if problem:
                yield problem


def _size_problems(datamodule: SegmentationDataModule) -> Iterator[str]:
    """Sentences on images of a size that the options do not allow; where they allow any, no header is read."""
    transform = datamodule.train_transform
    steps = transform.transforms if isinstance(transform, A.BaseCompose) else []
    for step in steps:
        window = step.largest_window() if isinstance(step, RandomScaleCrop) else None
        if window is None:
            continue
        for name, source in _sources(datamodule, "train").items():
            problem = too_small(name, image_sizes(source), window)
            if problem:
                yield problem
    if datamodule.eval_batch_size == 1 or datamodule.eval_transform is not None:
        return
    for stage in ("val", "test"):
        try:
            sources = _sources(datamodule, stage)
        except UserError:
            if stage == "val":
                raise
            continue  # a run whose test split cannot be read scores val
        for name, source in sources.items():
            problem = sizes_differ(name, image_sizes(source), datamodule.eval_batch_size)
            if problem:
                yield problem


def preflight(source: Source, limit: int = 16) -> AuditSummary:
    """Raise the first problem of a source: that of its last full audit, or what an evenly spread sample shows.

    A sample that shows one class only is no proof, so then every label is looked at before judging.

    Raises:
        UserError: the first of ``AuditSummary.problems``, or that there is no label at all.
    """
    found = known_audit(source)
    if found is None:
        sample = audit(source, limit)
        doubtful = sample.nothing_to_learn and sample.looked_at < sample.total
        found = remembered_audit(source) if doubtful else summary(sample)
    if found.problems:
        raise UserError(found.problems[0])
    if not found.labelled:
        raise UserError(
            f"none of {found.looked_at} samples looked at has a label; name a labelled split in data.splits"
        )
    return found
