"""Score a checkpoint on any split, or compare two scored runs.

``python -m src.evaluate ckpt=PATH [split=val]``, ``python -m src.evaluate compare=[RUN,RUN]``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from src.build import from_checkpoint, from_config
from src.build.config_values import with_values
from src.callbacks import Evaluation
from src.cli.scored_size import say_difference
from src.data import LabelSpace, SegmentationDataModule
from src.errors import UserError
from src.evaluation.compare_runs import compare_runs, comparison_table
from src.evaluation.protocol import protocol
from src.evaluation.refine_search import tune
from src.files.atomic import write_bytes
from src.metrics import Measures
from src.reports import console
from src.reports.run_folder import write_start
from src.runtime.run_lock import held
from src.runtime.signals import stoppable
from src.training.module import SegmentationModule


@held("writing scores there")
@stoppable
def evaluate(cfg: DictConfig) -> float:
    """Scores ``cfg.ckpt`` on ``cfg.split``; returns its mIoU, or for ``cfg.compare`` the difference of two runs'."""
    if cfg.compare:
        return compare(cfg)
    started = time.perf_counter()
    run_dir = Path(cfg.run_dir)
    console.quiet()
    module = from_checkpoint.load_module(
        cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride
    )
    say_difference(cfg, data_are_resized=True)
    cfg = with_values(cfg, {"data.splits": {"test": cfg.data.splits.get(cfg.split, [cfg.split])}})
    datamodule = from_config.build_datamodule(cfg)
    space = _check_classes(cfg, module, datamodule)
    options = {
        "boundary": cfg.boundary,
        "resamples": cfg.bootstrap,
        "worst": cfg.worst,
        "worst_images": cfg.worst_images,
    }

    def write(measures: Measures) -> None:
        write_start(run_dir, OmegaConf.to_yaml(cfg, resolve=True))
        found = {"measures": measures}
        stamp = protocol(
            OmegaConf.to_container(cfg, resolve=True),
            tester,
            datamodule=datamodule,
            stage="test",
            checkpoint=Path(cfg.ckpt),
            **found,
        )
        console.scores(
            module.test_scores,
            space,
            run_dir,
            stage=cfg.split,
            seconds=time.perf_counter() - started,
            paths={"worst images": run_dir / "worst"} if cfg.worst else None,
            protocol=stamp,
            **found,
        )

    tester = from_config.build_tester(cfg, Evaluation(space.num_classes, folder=run_dir, then=write, **options))
    if OmegaConf.select(cfg, "inference.refine.search"):
        cfg = _tune(cfg, module, datamodule, tester)
    tester.test(module, datamodule, verbose=False)
    if tester.is_global_zero:
        console.pictures(module.test_scores, space, run_dir, stage=cfg.split)
    return module.test_scores.miou


def _check_classes(cfg: DictConfig, module: SegmentationModule, datamodule: SegmentationDataModule) -> LabelSpace:
    """The classes of the data, which must be the checkpoint's."""
    expected, space = module.label_space.names, datamodule.test_dataset.source.label_space
    if expected != space.names:
        raise UserError(
            f"{cfg.ckpt} was trained on {len(expected)} classes ({', '.join(expected[:4])}, ...) but data"
            f" '{cfg.data.name}' has {space.num_classes} ({', '.join(space.names[:4])}, ...); evaluate it on data with"
            " its own classes"
        )
    return space


def _tune(
    cfg: DictConfig, module: SegmentationModule, datamodule: SegmentationDataModule, tester: pl.Trainer
) -> DictConfig:
    """Searches the CRF's options, and puts the best into ``module``; returns ``cfg`` with them."""
    table = Path(cfg.run_dir) / "refine_search.csv"
    best, miou = tune(module, datamodule.test_dataset, tester, images=cfg.search_images, table=table)
    found = {option: getattr(best, option) for option in cfg.inference.refine.search}
    words = " ".join(f"inference.refine.{option}={value}" for option, value in found.items())
    console.say(f"best refinement: {words} (mIoU {100 * miou:.2f} on the images of the search; all: {table})")
    chosen = {f"inference.refine.{option}": value for option, value in {**found, "search": None}.items()}
    return with_values(cfg, chosen)


def compare(cfg: DictConfig) -> float:
    """Compares two run folders on the same images, writes ``comparison.json``; returns the difference of their mIoU."""
    result = compare_runs(*cfg.compare, split=cfg.split, resamples=max(1000, 10 * cfg.bootstrap))
    path = Path(cfg.run_dir) / "comparison.json"
    write_bytes(path, (json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())
    console.say(f"{comparison_table(result)}\ncomparison: {path}")
    return result["difference"]
