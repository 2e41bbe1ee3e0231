"""Train a net: ``python -m src.train [group=option] [key=value]``; ``--help`` lists what can be chosen."""

from __future__ import annotations

import functools
import math
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.budget import check_alone
from src.cli import CONFIG_DIR, command, offer
from src.errors import UserError, noted
from src.overrides import name_of, quoted, value_of, without
from src.run_folder import first_process, held
from src.signals import gives_way

if TYPE_CHECKING:
    from src.data import SegmentationDataModule
    from src.metrics import Measures

LAST_CHECKPOINT = Path("checkpoints/last.ckpt")


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Turns ``resume=...`` into the config of that run, its folder, and its last checkpoint.

    ``resume=auto`` is for commands that a scheduler gives again as they are: it goes on with the run in its folder, and
    starts it where there is no checkpoint yet.
    """
    check_alone(value_of("budget", overrides), overrides)
    resume = value_of("resume", overrides)
    if not resume:
        return "train", overrides
    own = without("resume", overrides)
    if resume == "auto":
        run_dir = _folder_of_job(own)
        if not _saved(run_dir):
            return "train", [*own, quoted("hydra.run.dir", run_dir), "resume=auto"]
        own = [item for item in without("hydra.run.dir", own) if not _chooses_group(item) and not item.startswith("~")]
        own = [f"+{item}" if item.startswith("+") and not item.startswith("++") else item for item in own]
    else:
        run_dir = newest_run() if resume == "last" else Path(resume)
    if not _saved(run_dir):
        raise UserError(
            f"resume={resume}: {run_dir / LAST_CHECKPOINT} not found; name the folder of a run that saved one"
        )
    if groups := [item for item in own if _chooses_group(item)]:
        raise UserError(
            f"{groups[0]}: a resumed run keeps its own choices; override single values"
            " (trainer.accelerator=cpu), or start a"
            " new run with init_from"
        )
    return _resumed(run_dir, own)


def _resumed(run_dir: Path, overrides: list[str]) -> tuple[str, list[str]]:
    from src import restore  # and torch, which --help need not wait for

    checkpoint = restore.readable_checkpoint(run_dir)
    restore.keep_wandb_id(checkpoint, run_dir)
    offer(None, "resumed", restore.config_to_resume(checkpoint, overrides))
    return "resumed", [
        *overrides,
        "init_from=null",
        quoted("ckpt_path", checkpoint),
        quoted("hydra.run.dir", run_dir),
        "hydra.output_subdir=null",
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
    ]


def _saved(run_dir: Path) -> bool:
    return (run_dir / LAST_CHECKPOINT).is_file()


def _chooses_group(override: str) -> bool:
    name = name_of(override)
    return bool(name) and (CONFIG_DIR / name).is_dir()


def _folder_of_job(overrides: list[str]) -> Path:
    """The run folder that every start of one job shares."""
    if folder := value_of("hydra.run.dir", overrides):
        return Path(folder)
    for launcher, variable in (("slurm", "SLURM_JOB_ID"), ("torchrun", "TORCHELASTIC_RUN_ID")):
        job = os.environ.get(variable, "none")
        if job != "none":
            return Path(f"runs/train/{launcher}_{job}")
    raise UserError("resume=auto needs the run's folder, to find it again: add hydra.run.dir=runs/train/<name>")


def newest_run() -> Path:
    """The run folder under ``runs/train`` whose last checkpoint is the newest."""
    found = sorted(Path("runs/train").glob(f"*/{LAST_CHECKPOINT}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            "resume=last: no run with a checkpoint lies under runs/train; give its folder as resume=<folder>"
        )
    return found[-1].parents[1]


def _says_how_to_go_on(task: Callable[[DictConfig], float]) -> Callable[[DictConfig], float]:
    @functools.wraps(task)
    def run(cfg: DictConfig) -> float:
        try:
            return task(cfg)
        except (SystemExit, KeyboardInterrupt) as stop:
            if first_process():
                how = f"go on with: python -m src.train {shlex.quote(f'resume={cfg.run_dir}')}"
                saved = _saved(Path(cfg.run_dir))
                print(f"stopped; {how}" if saved else "stopped before the first checkpoint", flush=True)
            code = stop.code if isinstance(stop, SystemExit) else 1
            sys.exit(code or 1)

    return run


@held("training in it")
@_says_how_to_go_on
@gives_way
def train(cfg: DictConfig) -> float:
    """Fits, scores the best (or last) weights on the test split, reports; returns the best ``val/miou``."""
    began = time.monotonic()
    import pytorch_lightning as pl

    from src import build, report, restore, start
    from src.callbacks import Evaluation
    from src.data.preflight import before_fit
    from src.protocol import protocol
    from src.rehearsal import rehearse
    from src.training_speed import settle_length

    started = time.perf_counter()
    run_dir = Path(cfg.run_dir)
    if cfg.init_from:
        start.check_start(cfg.init_from)
    report.quiet()
    pl.seed_everything(cfg.seed, verbose=False)
    datamodule = build.build_datamodule(cfg)
    if cfg.preflight:
        pl.utilities.rank_zero_only(report.say)(before_fit(datamodule))
    scored = _scored_stage(datamodule)
    build.settle_class_weights(cfg, datamodule)
    callbacks = build.build_callbacks(cfg)
    if cfg.get("budget") and not cfg.ckpt_path:  # a resumed run keeps the length that was chosen
        line, deadline = settle_length(cfg, datamodule, began=began, scored=scored)
        pl.utilities.rank_zero_only(report.say)(line)
        callbacks.append(deadline)
        pl.seed_everything(cfg.seed, verbose=False)  # measuring drew numbers
    module = build.build_module(cfg, datamodule.label_space)
    if cfg.init_from:
        report.say(start.init_from(module, cfg.init_from))
    trainer = build.build_trainer(cfg, callbacks=callbacks, loggers=build.build_loggers(cfg))
    rehearse(trainer, module, datamodule, size=cfg.transforms.output_size or cfg.transforms.crop_size)
    if trainer.is_global_zero:
        report.write_start(cfg, run_dir)
        report.say(report.headline(cfg, module, datamodule, devices=trainer.world_size))
    with restore.telling_of_damage(cfg.ckpt_path):
        trainer.fit(module, datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    run_dir = Path(trainer.strategy.broadcast(str(run_dir)))  # processes that torchrun started have other names for it
    if cfg.score == "best":
        checkpoint = restore.load_best(module, trainer)
    else:
        checkpoint = restore.load_last(module, run_dir / LAST_CHECKPOINT)

    def write(measures: Measures) -> None:
        found = {"measures": measures}
        stamp = protocol(cfg, tester, datamodule=datamodule, stage=scored, checkpoint=checkpoint, **found)
        report.scores(
            module.test_scores,
            module.label_space,
            run_dir,
            stage=scored,
            seconds=time.perf_counter() - started,
            throughput=report.throughput_of(trainer),
            paths={"pictures": run_dir / "panels", "checkpoint": checkpoint},
            protocol=stamp,
            **found,
        )

    classes, worst_images = module.label_space.num_classes, cfg.get("worst_images", 6)
    tester = build.build_tester(cfg, Evaluation(classes, worst_images=worst_images, folder=run_dir, then=write))
    tester.test(module, getattr(datamodule, f"{scored}_dataloader")(), verbose=False)
    if trainer.is_global_zero:
        report.pictures(module.test_scores, module.label_space, run_dir, stage=scored)
        with noted("scores of the test in the loggers"):
            report.log_test(trainer, tester.callback_metrics)
    best = trainer.checkpoint_callback.best_model_score
    return math.nan if best is None else float(best)


def _scored_stage(datamodule: SegmentationDataModule) -> str:
    """``test``, or ``val`` where there is no test split with labels: better known before the fit than after it."""
    from src import report
    from src.data.audit import audit

    try:
        labelled = all(audit(source, 16).labelled for source in datamodule.sources("test"))
        reason = "it has no labels"
    except UserError as error:
        labelled, reason = False, str(error)
    if not labelled:
        report.say(f"note: the test split cannot be scored, so the run ends with val: {reason}")
    return "test" if labelled else "val"


if __name__ == "__main__":
    command("train", train, prepare=prepare)
