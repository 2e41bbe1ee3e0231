"""Check a data set and this computer before training: ``python -m src.doctor data=folder data.root=PATH``."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ..build import allowed, from_config
from ..build.from_config import with_classes
from ..build.instantiate import instantiate, targets
from ..build.moved_names import current_name
from ..build.training_length import with_length
from ..cli.overrides import name_of
from ..data import Source
from ..data.cache import cache_dir
from ..data.doctor import machine
from ..data.doctor.audit import AuditSummary, listing, remembered_audit
from ..data.doctor.duplicates import Leak, leak
from ..data.doctor.split_checks import Plan, class_shares, notes_between, problems_between
from ..data.folder import hints
from ..data.sets.registry import archives, count_finding
from ..data.workers import available_workers
from ..errors import UserError
from ..hub.address import is_address
from ..hub.resolve import whereabouts
from ..models.timm_trunks import published_weights
from ..reports import console
from ..runtime.cores import available_cores
from ..training.budget import LENGTHS
from .proposal import Given, command_line, proposed, training_overrides


@dataclass(frozen=True)
class Findings:
    """What the doctor found.

    Attributes:
        splits: name -> what is in it: counts, sizes, classes, and its own problems and notes (``AuditSummary``).
        classes: names in the order of their indices.
        problems: what must be fixed on this computer, in a split, or between splits; a sentence each.
        notes: what is odd but may be meant.
        command: a training that suits data and computer, as one line for a shell; ``None`` while there are problems of
            the data.
    """

    splits: dict[str, AuditSummary] = field(repr=False)
    classes: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    command: str | None

    @property
    def ok(self) -> bool:
        """Whether nothing must be fixed."""
        return not self.problems


def doctor(cfg: DictConfig) -> None:
    """As ``examine``; the status is 1 if something must be fixed."""
    if not examine(cfg).ok:
        sys.exit(1)


def examine(cfg: DictConfig) -> Findings:
    """Prints what the computer offers, what every split holds, what to fix, and a training that suits both."""
    instantiate(cfg.transforms, allowed.TRANSFORM)  # refuses sizes and scales that cannot be
    problems, notes = _check_machine(cfg)
    _list_downloads(cfg)
    found = _check_data(cfg)
    return replace(found, problems=(*problems, *found.problems), notes=(*notes, *found.notes))


def _check_machine(cfg: DictConfig) -> tuple[list[str], list[str]]:
    facts = machine.machine_facts({"runs": Path("runs"), "cache": cache_dir()}, available_cores())
    workers = available_workers() if cfg.data.num_workers == "auto" else cfg.data.num_workers
    pixels = cfg.data.batch_size * math.prod(cfg.transforms.output_size or cfg.transforms.crop_size)
    loading = 2 * workers * 4 * pixels  # two batches of RGB and label for each worker
    problems, notes = machine.problems(facts, loading=loading), machine.notes(facts)
    _say(f"this computer\n{machine.report(facts)}", problems, notes, of=" of this computer")
    return problems, notes


def _list_downloads(cfg: DictConfig) -> None:
    """Prints what a run would fetch from a hub or a web server, and whether it is here already; asks no network."""
    if found := _downloads(cfg):
        print("\nweights from elsewhere", *found, sep="\n", flush=True)


def _downloads(cfg: DictConfig) -> list[str]:
    found = [f"init_from   {cfg.init_from}: {whereabouts(cfg.init_from)}"] if is_address(cfg.init_from) else []
    backbone = OmegaConf.select(cfg, "model.net.backbone")
    if backbone is not None and backbone.get("pretrained") is True:
        address = published_weights(backbone.name)
        where = whereabouts(address) if address else "not at the hub, timm fetches it from elsewhere"
        found.append(f"backbone    {backbone.name}: {where}")
    return found


def _check_data(cfg: DictConfig) -> Findings:
    make, stages, release = instantiate(cfg.data.dataset, allowed.DATA), _stages(cfg), cfg.data.get("release")
    sources, found, problems, notes, counts = {}, {}, [], [], []
    for name in dict.fromkeys(name for names in stages.values() for name in names):
        try:
            sources[name] = make(split=name)
        except UserError as error:
            if name in stages["train"] or name in stages.get("val", ()):
                problems.append(f"{name}: {error}")
            else:
                notes.append(f"{name}: {error}; without it a run ends with the scores of val")
            continue
        cfg = with_classes(cfg, sources[name].label_space)
        found[name] = remembered_audit(sources[name], limit=cfg.limit, fresh=cfg.fresh, progress=True)
        # The first pairs show whether the right label goes with the right image; generated scenes have none.
        pairs = [f"pair        {pair.image}  <-  {pair.label or 'no label'}" for pair in sources[name].pairs[:3]]
        print("", f"{cfg.data.name} / {name}", *pairs, found[name].report, sep="\n", flush=True)
        count = count_finding(release, name, len(sources[name]))
        if count is not None:
            counts.append(count)
    if not sources:
        raise UserError(problems[0].partition(": ")[2])
    plan = _plan(cfg, stages, next(iter(sources.values())))
    leaks = _leaks(plan, sources, limit=cfg.limit, fresh=cfg.fresh)
    problems += problems_between(plan, found, leaks)
    notes += [*_beside(cfg), *counts, *notes_between(plan, found, leaks)]
    _say(f"\n{cfg.data.name}, all splits", problems, notes, of=" between the splits")
    sick = bool(problems) or any(looked.problems for looked in found.values())
    if (problems or counts) and release:
        print("\narchives of the complete data set", *archives(release), sep="\n")
    line = None
    if sick:
        print("\nfix the problems above, and the doctor proposes a training", flush=True)
    else:
        reasons, line = _proposal(cfg, plan, found)
        print("", reasons, "", line, sep="\n", flush=True)
    return Findings(
        found,
        tuple(plan.classes),
        problems=(*(f"{name}: {said}" for name in found for said in found[name].problems), *problems),
        notes=(*(f"{name}: {said}" for name in found for said in found[name].notes), *notes),
        command=line,
    )


def _stages(cfg: DictConfig) -> dict[str, list[str]]:
    """Stage -> splits that it reads, among them those that the sampler adds to training."""
    stages = {
        str(stage): [names] if isinstance(names, str) else list(names or ()) for stage, names in cfg.data.splits.items()
    }
    stages["train"] = [*stages.get("train", ()), *instantiate(cfg.sampler, allowed.SAMPLER).extra]
    return stages


def _plan(cfg: DictConfig, stages: dict[str, list[str]], source: Source) -> Plan:
    transforms = cfg.transforms
    resized = transforms.long_edge or transforms.short_side or list(transforms.aspect) != [1.0, 1.0]
    return Plan(
        stages,
        source.label_space.names,
        eval_batch_size=1 if cfg.data.get("eval_long_edge") else cfg.data.eval_batch_size,
        crop_size=None if resized else transforms.crop_size,
        scale=transforms.scale,
        pad=transforms.pad,
    )


def _leaks(plan: Plan, sources: dict[str, Source], *, limit: int | None, fresh: bool) -> dict[tuple[str, str], Leak]:
    """(training split, scored split) -> what they share, for those that could be read and have files."""
    found = {
        (train, scored): leak(sources[train], sources[scored], limit=limit, fresh=fresh, progress=True)
        for train in plan.stages["train"]
        for scored in plan.scored
        if train in sources and scored in sources
    }
    return {names: shared for names, shared in found.items() if shared is not None}


def _say(text: str, problems: list[str], notes: list[str], *, of: str = "") -> None:
    print(text, *listing(problems, notes, of=of), sep="\n", flush=True)


def _beside(cfg: DictConfig) -> list[str]:
    """Of own folders: files that are not read, and other folders that could be the masks."""
    if current_name(cfg.data.dataset._target_) != "src.data.folder.source.folder":
        return []
    roots = [cfg.data.root] if isinstance(cfg.data.root, str) else cfg.data.root
    notes = []
    for root in (Path(root).expanduser() for root in roots):
        notes += hints.notes(root, cfg.data.image_dir, cfg.data.mask_dir)
    return notes


def _proposal(cfg: DictConfig, plan: Plan, found: dict[str, AuditSummary]) -> tuple[str, str]:
    """The reasons for the options of a training on these data, on this computer; and its whole command."""
    own = list(HydraConfig.get().overrides.task)
    if not {"data", "experiment"} & set(map(name_of, own)):
        own = [f"data={HydraConfig.get().runtime.choices['data']}", *own]  # another default than that of src.train
    given = _given(cfg, plan, found, own)
    options = proposed(given)
    budget = None
    if not given.names(*LENGTHS):
        budget = cfg.budget or ("20m" if given.gpu is None else "2h")
    line = command_line(given, [option for option, _ in options], budget)
    width = max((len(option) for option, _ in options), default=0)
    lines = ["a first training", *(f"  {option:<{width}}  {reason}" for option, reason in options)]
    if cfg.measure and budget is not None:
        chosen = [option for option, _ in options]
        run = compose("train", [*training_overrides(given), *chosen, f"budget={budget}", "run_dir=."])
        try:
            lines.append(f"  {_expected(run)}")
        except UserError as error:
            lines.append(f"  it cannot be timed: {error}")
    weights = (
        "" if cfg.init_from else "; it starts from random weights, and init_from=RUN_FOLDER would start from trained"
    )
    lines.append(f"  net: {cfg.model.name}{weights}")
    return "\n".join(lines), line


def _given(cfg: DictConfig, plan: Plan, found: dict[str, AuditSummary], overrides: list[str]) -> Given:
    facts = machine.machine_facts({}, available_cores())
    gpu = facts.gpus[0] if facts.gpus and cfg.trainer.accelerator in ("auto", "gpu", "cuda") else None
    train = [found[name] for name in cfg.data.splits.train if name in found]
    labels = max(1, sum(looked.labelled for looked in train))
    shown = [sum(column) / labels for column in zip(*(looked.label_images for looked in train), strict=True)]
    return Given(
        overrides,
        sum(looked.total for looked in train),
        [(width, height, count) for looked in train for width, height, count in looked.sizes],
        class_shares(plan, found),
        dict(zip(plan.classes, shown, strict=True)),
        gpu=None if gpu is None else gpu.total,
        capable=gpu is not None and gpu.capability >= (8, 0) and torch.cuda.is_bf16_supported(),
        memory=None if facts.memory is None else facts.memory[0],
        weighs=any("class_weights" in options for _, options in targets(cfg.loss)),
    )


def _expected(cfg: DictConfig) -> str:
    """What the budget allows, measured by a few steps on this computer."""
    console.quiet()
    pl.seed_everything(cfg.seed, verbose=False)
    datamodule = from_config.build_datamodule(cfg)
    cfg = from_config.with_class_weights(cfg, datamodule)
    _, line, _ = with_length(cfg, datamodule, began=time.monotonic(), scored="val")
    return f"measured here, {line}"
