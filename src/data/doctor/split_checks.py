"""What the splits of a data set show only together: classes one of them lacks, sizes that cannot be batched, copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from ...files.json_schema import Count
from ...runtime.bars import tqdm
from ..cache import fingerprint, load_json, store_json
from ..source import Source
from ..workers import no_bar
from .audit import AuditSummary
from .duplicates import Leak

__all__ = [
    "RARE",
    "Plan",
    "Size",
    "class_shares",
    "image_sizes",
    "leak_problem",
    "notes_between",
    "problems_between",
    "sizes_differ",
    "too_small",
]

RARE = 0.02
"""Share of the training pixels below which a class counts as rare."""

_FEW = 10  # scored images
_MANY_COPIES = 0.01  # of the scored images; published sets have a few
_SIZES_KIND = "sizes-1"  # another number where the same headers would be read otherwise
_THREADS = 4  # they wait for the disk together; on a fast one a header costs some Python only
_HEADERS = 1024  # in flight


@dataclass(frozen=True)
class Plan:
    """How a training would use the splits.

    Args:
        stages: ``train``, ``val``, ``test`` -> names of the splits it reads.
        classes: names in train-id order.
        eval_batch_size: images that are scored together.
        crop_size: (height, width) that the net sees in training; ``None`` where that does not tell what it needs.
        scale: two numbers are the range of the random scale, any other count a list.
        pad: whether images smaller than the crop are padded.
    """

    stages: Mapping[str, Sequence[str]]
    classes: Sequence[str]
    eval_batch_size: int = 1
    crop_size: Sequence[int] | None = None
    scale: Sequence[float] = (1.0,)
    pad: bool = True

    @property
    def scored(self) -> list[str]:
        """Splits that are evaluated and not trained on."""
        names = dict.fromkeys([*self.stages.get("val", ()), *self.stages.get("test", ())])
        return [name for name in names if name not in self.stages.get("train", ())]


def problems_between(
    plan: Plan, audits: Mapping[str, AuditSummary], leaks: Mapping[tuple[str, str], Leak] | None = None
) -> list[str]:
    """What must be fixed, although each split may be sound.

    Args:
        plan: how the splits are used.
        audits: split -> what is in it; splits that could not be read are left out.
        leaks: (training split, scored split) -> what they share.
    """
    sentences: list[str | None] = []
    for stage in ("train", "val"):
        if not plan.stages.get(stage):
            sentences.append(f"data.splits names no split for '{stage}'; add for example data.splits.{stage}=[{stage}]")
        for name in plan.stages.get(stage, ()):
            if name in audits and not audits[name].labelled and not audits[name].problems:
                sentences.append(f"{name}: no sample has a label; name a labelled split, data.splits.{stage}=[...]")
    for name in dict.fromkeys([*plan.stages.get("val", ()), *plan.stages.get("test", ())]):
        if name in audits:
            sizes = [Size(height, width, count, "") for width, height, count in audits[name].sizes]
            sentences.append(sizes_differ(name, sizes, plan.eval_batch_size))
    if plan.crop_size is not None and not plan.pad:
        trained = [name for name in plan.stages.get("train", ()) if name in audits]
        sentences += [_small(plan.crop_size, min(plan.scale), name, audits[name]) for name in trained]
    sentences += [leak_problem(*names, found) for names, found in (leaks or {}).items()]
    return [sentence for sentence in sentences if sentence]


def notes_between(
    plan: Plan, audits: Mapping[str, AuditSummary], leaks: Mapping[tuple[str, str], Leak] | None = None
) -> list[str]:
    """What is odd but may be meant; arguments as for ``problems_between``."""
    sentences: list[str | None] = []
    train = plan.stages.get("train", ())
    for name in plan.stages.get("val", ()):
        if name in train:
            sentences.append(
                f"{name} is trained on and validated on, so val/miou says nothing about new images; meant for a last"
                f" run before a test server, else set data.splits.train=[{','.join(n for n in train if n != name)}]"
            )
    for name in plan.scored:
        sentences += _absent(plan, audits, name)
    if plan.crop_size is not None and plan.pad:
        trained = [name for name in train if name in audits]
        sentences += [_padded(plan.crop_size, max(plan.scale), name, audits[name]) for name in trained]
    sentences += [
        _rare(plan, audits),
        *(_few_images(name, audits[name]) for name in plan.scored if name in audits),
    ]
    for names, found in (leaks or {}).items():
        if found.copies and not leak_problem(*names, found):
            sentences.append(_copies(*names, found))
        if found.namesakes:
            sentences.append(
                f"{found.namesakes} names of {names[1]} occur in {names[0]} too, with other content"
                f" ({', '.join(found.names)}); fine where each split counts again, else give files names of their own"
            )
    return [sentence for sentence in sentences if sentence]


def leak_problem(train: str, scored: str, found: Leak) -> str | None:
    """A sentence if so many scored images are training images that scores are too good."""
    return _copies(train, scored, found) if found.copies > _MANY_COPIES * found.total else None


def _copies(train: str, scored: str, found: Leak) -> str:
    first, second = found.files[0]
    same = f"{second} is a training image too" if first == second else f"{second} is a copy of {first}"
    return (
        f"{same} ({found.copies} of {found.total} images of {scored} are in {train}), so its score says nothing about"
        " new images; remove such images from one of them, with data=folder by lists of files:"
        f" 'data.splits_files={{{train}: {train}.txt, {scored}: {scored}.txt}}'"
    )


def _absent(plan: Plan, audits: Mapping[str, AuditSummary], scored: str) -> list[str]:
    known = [audits[name] for name in plan.stages.get("train", ()) if name in audits]
    if scored not in audits or not audits[scored].labelled or not any(found.labelled for found in known):
        return []
    if any(found.looked_at < found.total for found in [audits[scored], *known]):
        return []  # a sample shows no absence
    learnt = [sum(counts) for counts in zip(*(found.label_images for found in known), strict=True)]
    shown = audits[scored].label_images
    train = " + ".join(plan.stages["train"])
    new = [name for name, here, there in zip(plan.classes, shown, learnt, strict=True) if here and not there]
    gone = [name for name, here, there in zip(plan.classes, shown, learnt, strict=True) if there and not here]
    redraw = "with data=folder draw the splits again, data.seed=1, or list files in data.splits_files"
    sentences = []
    if new:
        sentences.append(f"{', '.join(new)}: in {scored} but never in {train}, so no net can learn it; {redraw}")
    if gone:
        sentences.append(f"{', '.join(gone)}: in {train} but never in {scored}, so it is not scored; {redraw}")
    return sentences


def _small(crop_size: Sequence[int], scale: float, split: str, found: AuditSummary) -> str | None:
    height, width = (round(side / scale) for side in crop_size)
    small = [size for size in found.sizes if size[0] < width or size[1] < height]
    if not small:
        return None
    return (
        f"transforms.crop_size={list(crop_size)} at scale {scale:g} needs {width}x{height} pixels but"
        f" {sum(size[2] for size in small)} of {found.total} images of {split} are smaller (width x height, such as"
        f" {small[0][0]}x{small[0][1]}); set transforms.pad=true"
    )


def _padded(crop_size: Sequence[int], scale: float, split: str, found: AuditSummary) -> str | None:
    height, width = (round(side / scale) for side in crop_size)
    if not found.sizes or any(size[0] >= width and size[1] >= height for size in found.sizes):
        return None
    largest = max(found.sizes, key=lambda size: size[0] * size[1])
    return (
        f"transforms.crop_size={list(crop_size)} is larger than every image of {split} that was looked at, even at"
        f" scale {scale:g}, so each crop is padded; set data.crop_size=[{largest[1]},{largest[0]}]"
    )


def class_shares(plan: Plan, audits: Mapping[str, AuditSummary]) -> dict[str, float]:
    """Class -> its share (0..1) in the labelled pixels of what is trained on; empty where nothing was counted."""
    counted = [audits[name].pixels for name in plan.stages.get("train", ()) if name in audits]
    totals = [sum(column) for column in zip(*(pixels for pixels in counted if pixels), strict=True)]
    whole = sum(totals)
    return {name: total / whole for name, total in zip(plan.classes, totals, strict=True)} if whole else {}


def _rare(plan: Plan, audits: Mapping[str, AuditSummary]) -> str | None:
    rare = {name: share for name, share in class_shares(plan, audits).items() if 0 < share < RARE}
    if not rare:
        return None
    some = ", ".join(f"{name} {100 * share:.2g} %" for name, share in list(rare.items())[:8])
    return (
        f"{some} of the training pixels{', ...' if len(rare) > 8 else ''}: a class so rare is easily never predicted in"
        " a short training; data.class_weights=sqrt_median_frequency counts it more, sampler=class_uniform shows it"
        " more often, and weights to start from help most (init_from=RUN_FOLDER)"
    )


def _few_images(name: str, found: AuditSummary) -> str | None:
    if not 0 < found.labelled < _FEW or found.looked_at < found.total:
        return None
    return (
        f"{name} has {found.labelled} labelled images: so few say little about new ones; with data=folder"
        " 'data.fractions={train:0.6,val:0.2,test:0.2}' scores more of them"
    )


class Size(NamedTuple):
    """One size in pixels, how many images have it, and the name of the first."""

    height: Count
    width: Count
    count: Count
    example: str


def image_sizes(source: Source) -> list[Size]:
    """Every size that occurs, from the headers of all images; remembered until a file changes.

    Raises:
        UserError: for a file that is missing or no image.
    """
    key = fingerprint(source)
    kept = load_json(_SIZES_KIND, key, list[Size])
    if kept is not None:
        return kept
    found: dict[tuple[int, int], list[int]] = {}  # size -> images of it, and the first
    bar = tqdm(desc="image sizes", total=len(source), unit="image", delay=1, leave=False, disable=no_bar())
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(source), _HEADERS):
            chunk = range(start, min(start + _HEADERS, len(source)))
            for index, size in zip(chunk, pool.map(source.size, chunk, chunksize=64), strict=True):
                found.setdefault(tuple(size), [0, index])[0] += 1
            bar.update(len(chunk))
    sizes = [Size(*size, count, source.name(first)) for size, (count, first) in found.items()]
    store_json(_SIZES_KIND, key, sizes)
    return sizes


def too_small(split: str, sizes: Sequence[Size], window: tuple[int, int]) -> str | None:
    """A sentence if some images are smaller than the largest ``window`` (height, width) that a crop may need."""
    small = [size for size in sizes if size.height < window[0] or size.width < window[1]]
    if not small:
        return None
    return (
        f"crops need up to {window[1]}x{window[0]} pixels, but {sum(size.count for size in small)} of"
        f" {sum(size.count for size in sizes)} images of {split} are smaller ({small[0].example} is"
        f" {small[0].width}x{small[0].height}, width x height); set transforms.pad=true, lower transforms.crop_size or"
        " raise transforms.scale"
    )


def sizes_differ(split: str, sizes: Sequence[Size], eval_batch_size: int) -> str | None:
    """A sentence if images of several sizes would have to be scored in one batch."""
    if eval_batch_size == 1 or len(sizes) < 2:
        return None
    some = sorted(sizes, key=lambda size: -size.count)[:3]
    few = ", ".join(f"{size.width}x{size.height}" for size in some) + (", ..." if len(sizes) > 3 else "")
    return (
        f"data.eval_batch_size={eval_batch_size} puts images of {split} together, but their sizes differ ({few}); set"
        " data.eval_batch_size=1"
    )
