"""Score a checkpoint on any split, or compare two scored runs.

``python -m src.evaluate ckpt=PATH [split=val]``, ``python -m src.evaluate compare=[RUN,RUN]``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from src import predict
from src.cli import command, offer
from src.errors import UserError
from src.run_folder import held
from src.signals import gives_way

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from src.data import LabelSpace, SegmentationDataModule
    from src.metrics import Measures
    from src.module import SegmentationModule


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """As ``src.predict``, and the data of ``ckpt=...`` is the default too."""
    saved, overrides = predict.of_checkpoint(overrides, data_are_resized=True)
    offer("data", "checkpoint", saved.get("data", {}))
    return "evaluate", overrides


@held("writing scores there")
@gives_way
def evaluate(cfg: DictConfig) -> float:
    """Scores ``cfg.ckpt`` on ``cfg.split``; returns its mIoU, or for ``cfg.compare`` the difference of two runs'."""
    if cfg.compare:
        return compare(cfg)
    from src import build, report, restore
    from src.applied import say_difference
    from src.callbacks import Evaluation
    from src.protocol import protocol

    started = time.perf_counter()
    run_dir = Path(cfg.run_dir)
    report.quiet()
    module = restore.load_module(cfg.ckpt, inference=cfg.inference, model=cfg.model, output_stride=cfg.output_stride)
    say_difference(cfg, data_are_resized=True)
    cfg.data.splits = {"test": cfg.data.splits.get(cfg.split, [cfg.split])}
    datamodule = build.build_datamodule(cfg)
    space = _check_classes(cfg, module, datamodule)
    options = {
        "boundary": cfg.boundary,
        "resamples": cfg.bootstrap,
        "worst": cfg.worst,
        "worst_images": cfg.worst_images,
    }

    def write(measures: Measures) -> None:
        report.write_start(cfg, run_dir)
        found = {"measures": measures}
        stamp = protocol(cfg, tester, datamodule=datamodule, stage="test", checkpoint=Path(cfg.ckpt), **found)
        report.scores(
            module.test_scores,
            space,
            run_dir,
            stage=cfg.split,
            seconds=time.perf_counter() - started,
            paths={"worst images": run_dir / "worst"} if cfg.worst else None,
            protocol=stamp,
            **found,
        )

    tester = build.build_tester(cfg, Evaluation(space.num_classes, folder=run_dir, then=write, **options))
    if OmegaConf.select(cfg, "inference.refine.search"):
        _tune(cfg, module, datamodule, tester)
    tester.test(module, datamodule, verbose=False)
    if tester.is_global_zero:
        report.pictures(module.test_scores, space, run_dir, stage=cfg.split)
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


def _tune(cfg: DictConfig, module: SegmentationModule, datamodule: SegmentationDataModule, tester: pl.Trainer) -> None:
    """Searches the CRF's options, and puts the best into ``module`` and ``cfg``."""
    from src import report
    from src.refine_search import tune

    table = Path(cfg.run_dir) / "refine_search.csv"
    best, miou = tune(module, datamodule.test_dataset, tester, images=cfg.search_images, table=table)
    found = {option: getattr(best, option) for option in cfg.inference.refine.search}
    cfg.inference.refine.update({**found, "search": None})
    words = " ".join(f"inference.refine.{option}={value}" for option, value in found.items())
    report.say(f"best refinement: {words} (mIoU {100 * miou:.2f} on the images of the search; all: {table})")


def compare(cfg: DictConfig) -> float:
    """Compares two run folders on the same images, writes ``comparison.json``; returns the difference of their mIoU."""
    from src import report
    from src.compare import compare_runs, comparison_table
    from src.files import write_bytes

    result = compare_runs(*cfg.compare, split=cfg.split, resamples=max(1000, 10 * cfg.bootstrap))
    path = Path(cfg.run_dir) / "comparison.json"
    write_bytes(path, (json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())
    report.say(f"{comparison_table(result)}\ncomparison: {path}")
    return result["difference"]


if __name__ == "__main__":
    command("evaluate", evaluate, prepare=prepare)
