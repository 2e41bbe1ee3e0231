"""Run a sweep and compare it with a paper's table: ``python -m src.sweep sweep=NAME``; ``--help`` lists them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..build.validate import check_options
from ..cli.command import explain
from ..cli.overrides import readable
from ..cli.sweep_line import OWN, SPEC
from ..errors import UserError
from ..files.atomic import is_locked, write_bytes
from ..files.project import CONFIG_DIR
from ..files.untrusted import read_json
from ..profiling.sweep_costs import trial_costs
from ..sweeps import Driver, Sweep, Trial, parse, results
from ..sweeps.executors.base import Executor
from ..sweeps.executors.local import Local, gpus, slots
from ..sweeps.executors.ray import RayCluster
from ..sweeps.executors.slurm import Cluster
from ..sweeps.report import write_report
from ..sweeps.scheduler import Search


def sweep(cfg: DictConfig) -> None:
    """Runs what is left of the sweep, then writes and prints its table; fails if a trial failed."""
    folder = Path(cfg.resume or cfg.report or cfg.run_dir)
    if cfg.add_seeds:
        _add_seeds(cfg, folder)
    tree = _stored(folder) if cfg.resume or cfg.report else _begin(cfg, folder)
    spec = parse(tree)
    if not cfg.report:
        executor = _executor(cfg, spec, folder)
        if not cfg.resume:
            _store(folder, tree)
            _say(f"sweep folder: {folder}; after any stop, resume it with {shlex.quote(f'resume={folder}')}")
        Driver(spec, folder, executor=executor, retry_failed=cfg.retry_failed, say=_say).run()
    found = results(spec, folder)
    _say(write_report(spec, found, trial_costs(found, folder, idle=not is_locked(folder)), folder))
    failed = [failure for result in found for failure in result.failures]
    if failed and not cfg.report:
        name, message = failed[0]
        raise UserError(
            f"{len(failed)} of {sum(sum(result.states.values()) for result in found)} trials failed, {name} first:"
            f" {message} (log: {folder / 'trials' / name / 'log.txt'}); once corrected, resume={folder}"
            " retry_failed=true"
        )


def _stored(folder: Path) -> dict[str, Any]:
    """Plain containers of the sweep in ``folder``, for ``parse``, which checks them."""
    return read_json(folder / SPEC, dict[str, Any], remedy="restore it, or start a new sweep")


def _store(folder: Path, tree: dict[str, Any]) -> None:
    write_bytes(folder / SPEC, (json.dumps(tree, indent=1) + "\n").encode())


def _say(line: str) -> None:
    print(line, flush=True)


def _begin(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Plain containers of a new sweep; every trial is checked before the first one starts."""
    if (folder / SPEC).is_file():
        raise UserError(f"{folder} holds a sweep already; resume it with resume={folder}, or choose another folder")
    tree: Any = OmegaConf.to_container(cfg.sweep, resolve=False)
    options: Any = OmegaConf.to_container(cfg.options, resolve=False)
    tree["name"] = cfg.sweep.name
    tree["fixed"] = [*(tree["fixed"] or []), *options]
    trials = check(parse(tree))
    if cfg.executor == "local":  # other machines may have other folders
        for trial in trials:
            _check_root(trial["data"].get("root"))
    return tree


def _check_root(root: Any) -> None:
    for folder in root if isinstance(root, list) else [root]:
        if isinstance(folder, str) and "://" not in folder and not Path(folder).exists():
            raise UserError(f"data.root={folder}: there is no such folder; give data.root=, which goes to every trial")


def _add_seeds(cfg: DictConfig, folder: Path) -> None:
    """Gives every row further seeds, in the folder's own record of what the sweep is."""
    seeds = list(cfg.add_seeds) if OmegaConf.is_list(cfg.add_seeds) else [cfg.add_seeds]
    if not cfg.resume:
        raise UserError(f"add_seeds={seeds} goes with resume=FOLDER; a new sweep takes sweep.seeds=")
    if is_locked(folder):
        raise UserError(f"add_seeds={seeds}: {folder} is being run; wait for it, or stop it")
    tree = _stored(folder)
    if tree.get("search"):
        raise UserError(f"add_seeds={seeds}: a search judged its rows by the seeds it has; start a new one")
    parse(tree)
    tree["seeds"] = [*tree["seeds"], *(seed for seed in seeds if seed not in tree["seeds"])]
    parse(tree)
    _store(folder, tree)


def check(spec: Sweep) -> list[dict[str, Any]]:
    """Composes the config of every row, or one for every option of a search.

    Raises:
        UserError: naming the row whose options do not make one.
    """
    if spec.search:
        Search(spec, (), {}, note=print)  # refuses a space that Optuna would refuse
    where, found = "search.space" if spec.search else "trials", []
    with _composing():
        for row in spec.samples():
            try:
                overrides = readable([*spec.options(Trial(row, spec.seeds[0])), "run_dir=x"])
                cfg = hydra.compose("train", overrides=overrides)
                check_options("train", cfg, built=False)
                resolved: Any = OmegaConf.to_container(cfg, resolve=True)
                found.append(resolved)
            except (UserError, HydraException, OmegaConfBaseException, ValueError) as error:
                what = str(error) if isinstance(error, UserError) else explain(error, "train", also=OWN)
                raise UserError(f"sweep.{where}: '{row.name}' ({' '.join(row.options)}) is no run: {what}") from error
    return found


@contextmanager
def _composing() -> Iterator[None]:
    """Lets configs of ``src.train`` be composed within a command that Hydra runs."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def _executor(cfg: DictConfig, spec: Sweep, folder: Path) -> Executor:
    if not hasattr(os, "killpg"):
        raise UserError(f"executor={cfg.executor}: a sweep does not run on Windows; use Linux, macOS or WSL")
    devices = gpus(cfg.gpus)
    if cfg.executor == "local":
        return Local(slots(devices, per_trial=spec.devices, jobs=cfg.jobs), patience=cfg.patience)
    if cfg.executor == "submitit":
        options: Any = OmegaConf.to_container(cfg.cluster, resolve=True)
        if options["gpus_per_node"] is None:
            options["gpus_per_node"] = spec.devices
        return Cluster(folder / "cluster", jobs=cfg.jobs, options=options)
    if cfg.executor == "ray":
        own = None if cfg.gpus == "auto" else devices
        given = {"jobs": cfg.jobs, "gpus": own, "options": cfg.ray, "patience": cfg.patience}
        return RayCluster(folder / "ray", devices=spec.devices, **given)
    raise UserError(f"executor={cfg.executor} is unknown; use local, submitit or ray")
