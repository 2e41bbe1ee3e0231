"""Check a data set and this computer before training: ``python -m src.doctor data=folder data.root=PATH``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from src.cli import command
from src.errors import UserError

if TYPE_CHECKING:
    from src.data import Source
    from src.data.leaks import Leak
    from src.data.split_findings import Plan


def doctor(cfg: DictConfig) -> None:
    """Prints what the computer offers, what every split holds, and what to mend; status 1 if something must be."""
    from src.instantiate import instantiate

    instantiate(cfg.transforms)  # refuses sizes and scales that cannot be
    sick = _check_machine(cfg)
    sick |= _check_data(cfg)
    if sick:
        sys.exit(1)


def _check_machine(cfg: DictConfig) -> bool:
    from src import machine
    from src.data.cache import cache_dir
    from src.data.cores import available_cores, available_workers

    facts = machine.look({"runs": Path("runs"), "cache": cache_dir()}, available_cores())
    workers = available_workers() if cfg.data.num_workers == "auto" else cfg.data.num_workers
    pixels = cfg.data.batch_size * math.prod(cfg.transforms.output_size or cfg.transforms.crop_size)
    loading = 2 * workers * 4 * pixels  # two batches of RGB and label for each worker
    problems = machine.problems(facts, loading=loading)
    _say(machine.report(facts), problems, machine.notes(facts))
    return bool(problems)


def _check_data(cfg: DictConfig) -> bool:
    from src.build import settle_classes
    from src.data.checkup import checkup
    from src.data.release import archives, count_finding
    from src.data.split_findings import notes_between, problems_between
    from src.instantiate import instantiate

    make, stages, release = instantiate(cfg.data.dataset), _stages(cfg), cfg.data.get("release")
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
        settle_classes(cfg, sources[name].label_space)
        found[name] = checkup(sources[name], limit=cfg.limit, fresh=cfg.fresh, progress=True)
        print(f"\n{cfg.data.name} / {name}\n{_first_pairs(sources[name])}{found[name].report}", flush=True)
        counts += filter(None, [count_finding(release, name, len(sources[name]))])
    if not sources:
        raise UserError(problems[0].partition(": ")[2])
    plan = _plan(cfg, stages, next(iter(sources.values())))
    leaks = _leaks(plan, sources, fresh=cfg.fresh)
    problems += problems_between(plan, found, leaks)
    _say(f"\n{cfg.data.name}, all splits", problems, notes + counts + notes_between(plan, found, leaks))
    if (problems or counts) and release:
        print("\narchives of the complete data set", *archives(release), sep="\n")
    return bool(problems) or any(looked.problems for looked in found.values())


def _stages(cfg: DictConfig) -> dict[str, list[str]]:
    """Stage -> splits that it reads, among them those that the sampler adds to training."""
    from src.instantiate import instantiate

    stages = {
        stage: [names] if isinstance(names, str) else list(names or ())
        for stage, names in OmegaConf.to_container(cfg.data.splits, resolve=True).items()
    }
    stages["train"] = [*stages.get("train", ()), *instantiate(cfg.sampler).extra]
    return stages


def _plan(cfg: DictConfig, stages: dict[str, list[str]], source: Source) -> Plan:
    from src.data.split_findings import Plan

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


def _leaks(plan: Plan, sources: dict[str, Source], *, fresh: bool) -> dict[tuple[str, str], Leak]:
    """(training split, scored split) -> what they share, for those that could be read and have files."""
    from src.data.leaks import leak

    found = {
        (train, scored): leak(sources[train], sources[scored], fresh=fresh, progress=True)
        for train in plan.stages["train"]
        for scored in plan.scored
        if train in sources and scored in sources
    }
    return {names: shared for names, shared in found.items() if shared is not None}


def _say(text: str, problems: list[str], notes: list[str]) -> None:
    from src.data.audit_report import listing

    print(text, *listing(problems, notes), sep="\n", flush=True)


def _first_pairs(source: Source) -> str:
    """The first pairs of files, to see whether the right label goes with the right image."""
    pairs = getattr(source, "pairs", [])[:3]  # generated scenes have none
    return "".join(f"pair        {pair.image}  <-  {pair.label or 'no label'}\n" for pair in pairs)


if __name__ == "__main__":
    command("doctor", doctor)
