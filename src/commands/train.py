"""Train a net: ``python -m src.train [group=option] [key=value]``; ``--help`` lists what can be chosen."""

from __future__ import annotations

import functools
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ..build import from_checkpoint, from_config, init_from
from ..build.config_values import with_values
from ..build.training_length import with_length
from ..callbacks import Evaluation, throughput_of
from ..cli.resume import has_checkpoint
from ..data import SegmentationDataModule
from ..data.doctor.audit import audit
from ..data.doctor.preflight import before_fit
from ..errors import UserError, noted
from ..evaluation.protocol import protocol
from ..files.project import as_called
from ..files.run_files import LAST_CHECKPOINT, PANELS
from ..hub.resolve import origin
from ..metrics import Measures
from ..reports import console
from ..reports.run_folder import write_start
from ..runtime.run_lock import first_process, held
from ..runtime.signals import stoppable
from ..training.rehearsal import rehearse


def _says_how_to_resume(task: Callable[[DictConfig], float]) -> Callable[[DictConfig], float]:
    @functools.wraps(task)
    def run(cfg: DictConfig) -> float:
        try:
            return task(cfg)
        except (SystemExit, KeyboardInterrupt) as stop:
            if first_process():
                how = f"{as_called('resume with: python -m src.train')} {shlex.quote(f'resume={cfg.run_dir}')}"
                saved = has_checkpoint(Path(cfg.run_dir))
                print(f"stopped; {how}" if saved else "stopped before the first checkpoint", flush=True)
            code = stop.code if isinstance(stop, SystemExit) else 1
            sys.exit(code or 1)

    return run


@held("training in it")
@_says_how_to_resume
@stoppable
def train(cfg: DictConfig) -> float:
    """Fits, scores the best (or last) weights on the test split, reports; returns the best ``val/miou``."""
    began = time.monotonic()
    started = time.perf_counter()
    run_dir, start = Path(cfg.run_dir), None
    if cfg.init_from:
        start = init_from.check_start(cfg.init_from)
        cfg = with_values(cfg, {"init_from": origin(start) or cfg.init_from})  # the same weights when it runs again
    console.quiet()
    pl.seed_everything(cfg.seed, verbose=False)
    datamodule = from_config.build_datamodule(cfg)
    if cfg.preflight:
        rank_zero_only(console.say)(before_fit(datamodule))
    scored = _scored_stage(datamodule)
    cfg = from_config.with_class_weights(from_config.with_classes(cfg, datamodule.label_space), datamodule)
    callbacks = from_config.build_callbacks(cfg)
    if cfg.get("budget") and not cfg.ckpt_path:  # a resumed run keeps the length that was chosen
        cfg, line, deadline = with_length(cfg, datamodule, began=began, scored=scored)
        rank_zero_only(console.say)(line)
        callbacks.append(deadline)
        pl.seed_everything(cfg.seed, verbose=False)  # measuring drew numbers
    module = from_config.build_module(cfg, datamodule.label_space)
    if start is not None:
        console.say(init_from.init_from(module, start))
    trainer = from_config.build_trainer(cfg, callbacks=callbacks, loggers=from_config.build_loggers(cfg))
    rehearse(trainer, module, datamodule, size=cfg.transforms.output_size or cfg.transforms.crop_size)
    if trainer.is_global_zero:
        write_start(run_dir, OmegaConf.to_yaml(cfg, resolve=True), resumed=bool(cfg.ckpt_path))
        names = {"model": cfg.model.name, "data": cfg.data.name, "run_dir": Path(cfg.run_dir)}
        console.say(
            console.headline(module.net, datamodule, **names) + _few_images(cfg, datamodule, trainer.world_size)
        )
    with from_checkpoint.naming_unusable_state(cfg.ckpt_path):
        trainer.fit(module, datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    run_dir = Path(trainer.strategy.broadcast(str(run_dir)))  # processes that torchrun started have other names for it
    if cfg.score == "best":
        checkpoint = from_checkpoint.load_best(module, trainer)
    else:
        checkpoint = from_checkpoint.load_last(module, run_dir / LAST_CHECKPOINT)

    def write(measures: Measures) -> None:
        stamp = protocol(
            from_config.as_plain(cfg),
            tester,
            datamodule=datamodule,
            stage=scored,
            measures=measures,
            checkpoint=checkpoint,
        )
        console.scores(
            module.test_scores,
            module.label_space,
            run_dir,
            stage=scored,
            seconds=time.perf_counter() - started,
            throughput=throughput_of(trainer),
            paths={"pictures": run_dir / PANELS, "checkpoint": checkpoint},
            measures=measures,
            protocol=stamp,
        )

    classes, worst_images = module.label_space.num_classes, cfg.get("worst_images", 6)
    tester = from_config.build_tester(cfg, Evaluation(classes, worst_images=worst_images, folder=run_dir, then=write))
    loader = datamodule.test_dataloader() if scored == "test" else datamodule.val_dataloader()
    tester.test(module, loader, verbose=False)
    if trainer.is_global_zero:
        console.pictures(module.test_scores, module.label_space, run_dir, stage=scored)
        with noted("scores of the test in the loggers"):
            console.log_test(trainer, module.test_scores, module.label_space.names, tester.callback_metrics)
    kept = trainer.checkpoint_callback
    best = kept.best_model_score if isinstance(kept, ModelCheckpoint) else None
    return math.nan if best is None else float(best)


def _few_images(cfg: DictConfig, datamodule: SegmentationDataModule, devices: int) -> str:
    """A line on batches that DeepLab v3's image pooling suffers from (arXiv 1706.05587, effect of the batch size)."""
    images = datamodule.batch_size * (devices if cfg.trainer.sync_batchnorm else 1)
    if images >= 12 or OmegaConf.select(cfg, "norms.freeze") or not cfg.model.net.get("image_pooling"):
        return ""
    return (
        f"\nnote: batch norm sees {images} images a step; DeepLab v3 reached 64.4 mIoU with 4, 75.8 with 8, 77.2 with"
        " 16: raise data.batch_size, set trainer.sync_batchnorm=true on several devices, or norms.freeze=all"
    )


def _scored_stage(datamodule: SegmentationDataModule) -> str:
    """``test``, or ``val`` where there is no test split with labels; asked before the fit, to say so in time."""
    try:
        labelled = all(audit(source, 16).labelled for source in datamodule.sources("test"))
        reason = "it has no labels"
    except UserError as error:
        labelled, reason = False, str(error)
    if not labelled:
        console.say(f"note: the test split cannot be scored, so the run ends with val: {reason}")
    return "test" if labelled else "val"
