"""Run a sweep and set it beside a paper's table: ``python -m src.sweep sweep=NAME``; ``--help`` lists what there is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.build.validate import check_options
from src.cli.command import explain
from src.cli.overrides import readable
from src.cli.sweep_line import OWN, SPEC
from src.errors import UserError
from src.files.atomic import is_locked, write_bytes
from src.files.project import CONFIG_DIR
from src.files.untrusted import read_json
from src.profiling.sweep_costs import trial_costs
from src.sweeps import Driver, Result, Sweep, Trial, parse, results
from src.sweeps.executors.local import Local, gpus, slots
from src.sweeps.executors.ray import RayCluster
from src.sweeps.executors.slurm import Cluster
from src.sweeps.plots import draw
from src.sweeps.report import page, text
from src.sweeps.scheduler import Search


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
            _write(folder / SPEC, (json.dumps(tree, indent=1) + "\n").encode())
            _say(f"sweep folder: {folder}; go on after any stop with {shlex.quote(f'resume={folder}')}")
        Driver(spec, folder, executor=executor, retry_failed=cfg.retry_failed, say=_say).run()
    found = results(spec, folder)
    _say(write_report(spec, found, folder))
    failed = [failure for result in found for failure in result.failures]
    if failed and not cfg.report:
        name, message = failed[0]
        raise UserError(
            f"{len(failed)} of {sum(sum(result.states.values()) for result in found)} trials failed, {name} first:"
            f" {message} (log: {folder / 'trials' / name / 'log.txt'}); once mended: resume={folder} retry_failed=true"
        )


def _stored(folder: Path) -> dict[str, Any]:
    """What the sweep in ``folder`` is, in plain containers for ``parse``, which checks them."""
    return read_json(folder / SPEC, dict[str, Any], remedy="restore it, or start a new sweep")


def _say(line: str) -> None:
    print(line, flush=True)


def _begin(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """What the sweep is; every trial is checked before the first one starts."""
    if (folder / SPEC).is_file():
        raise UserError(f"{folder} holds a sweep already; go on with it: resume={folder}, or choose another folder")
    tree = OmegaConf.to_container(cfg.sweep, resolve=False)
    tree["name"] = cfg.sweep.name
    tree["fixed"] = [*(tree["fixed"] or []), *OmegaConf.to_container(cfg.options, resolve=False)]
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
    seeds = OmegaConf.to_container(cfg.add_seeds) if OmegaConf.is_list(cfg.add_seeds) else [cfg.add_seeds]
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
    _write(folder / SPEC, (json.dumps(tree, indent=1) + "\n").encode())


def check(spec: Sweep) -> list[dict[str, Any]]:
    """Composes the config of every row, or one for every option of a search.

    Raises:
        UserError: naming the row whose options do not make one.
    """
    if spec.search:
        Search(spec, (), {}, note=print)
    found = []
    with _composing():
        for row in spec.samples():
            try:
                cfg = hydra.compose(
                    "train", overrides=readable([*spec.options(Trial(row, spec.seeds[0])), "run_dir=x"])
                )
                check_options("train", cfg, built=False)
                found.append(OmegaConf.to_container(cfg, resolve=True))
            except UserError as error:
                where = "search.space" if spec.search else "trials"
                raise UserError(f"sweep.{where}: '{row.name}' ({' '.join(row.options)}) is no run: {error}") from error
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                where, what = "search.space" if spec.search else "trials", explain(error, "train", also=OWN)
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


def _executor(cfg: DictConfig, spec: Sweep, folder: Path) -> Any:
    devices = gpus(cfg.gpus)
    if cfg.executor == "local":
        return Local(slots(devices, per_trial=spec.devices, jobs=cfg.jobs), patience=cfg.patience)
    if cfg.executor == "submitit":
        options = OmegaConf.to_container(cfg.cluster, resolve=True)
        if options["gpus_per_node"] is None:
            options["gpus_per_node"] = spec.devices
        return Cluster(folder / "cluster", jobs=cfg.jobs, options=options)
    if cfg.executor == "ray":
        own = None if cfg.gpus == "auto" else devices
        given = {"jobs": cfg.jobs, "gpus": own, "options": cfg.ray, "patience": cfg.patience}
        return RayCluster(folder / "ray", devices=spec.devices, **given)
    raise UserError(f"executor={cfg.executor} is unknown; use local, submitit or ray")


def write_report(spec: Sweep, found: Sequence[Result], folder: Path) -> str:
    """``report.md``, ``report.html`` and pictures in the sweep's folder; returns what to print."""
    costs = trial_costs(found, folder, idle=not is_locked(folder))
    pictures = {folder / name: content for name, content in draw(spec, found, costs).items()}
    for path, content in pictures.items():
        _write(path, content)
    written = text(spec, found, costs, list(pictures))
    _write(folder / "report.md", written.encode())
    _write(folder / "report.html", page(spec, found, costs, list(pictures)).encode())
    return f"{written.split('![')[0].rstrip()}\n\nreport: {folder / 'report.md'}, {folder / 'report.html'}"


def _write(path: Path, content: bytes) -> None:
    write_bytes(path, content)
