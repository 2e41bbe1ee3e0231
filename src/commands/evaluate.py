"""Score a checkpoint on any split, or compare two scored runs.

``python -m src.evaluate ckpt=PATH [split=val]``, ``python -m src.evaluate compare=[RUN,RUN]``.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..build import from_checkpoint, from_config
from ..build.config_values import as_plain, with_values
from ..callbacks import Evaluation
from ..cli.scored_size import say_difference
from ..data import LabelSpace
from ..errors import UserError
from ..evaluation.compare_runs import compare_runs, comparison_table
from ..evaluation.crf_search import tune
from ..evaluation.protocol import protocol
from ..files.atomic import write_bytes
from ..files.run_files import COMPARISON, CRF_SEARCH, WORST
from ..hub.resolve import origin
from ..metrics import Measures
from ..reports import console
from ..reports.run_folder import write_start
from ..runtime.run_lock import held
from ..runtime.signals import stoppable


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
    space = datamodule.test_dataset.source.label_space
    _check_classes(cfg, module.label_space, space)

    def write(measures: Measures) -> None:
        again = with_values(scored, {"ckpt": origin(Path(cfg.ckpt)) or cfg.ckpt})
        write_start(run_dir, OmegaConf.to_yaml(again, resolve=True))
        stamp = protocol(
            as_plain(scored),
            tester,
            datamodule=datamodule,
            stage="test",
            measures=measures,
            checkpoint=Path(cfg.ckpt),
        )
        console.scores(
            module.test_scores,
            space,
            run_dir,
            stage=cfg.split,
            seconds=time.perf_counter() - started,
            paths={"worst images": run_dir / WORST} if cfg.worst else None,
            measures=measures,
            protocol=stamp,
        )

    evaluation = Evaluation(
        space.num_classes,
        boundary=cfg.boundary,
        resamples=cfg.bootstrap,
        worst=cfg.worst,
        worst_images=cfg.worst_images,
        folder=run_dir,
        then=write,
    )
    tester = from_config.build_tester(cfg, evaluation)
    scored = cfg
    if OmegaConf.select(cfg, "inference.refine.search"):
        table = run_dir / CRF_SEARCH
        best, miou = tune(module, datamodule.test_dataset, tester, images=cfg.search_images, table=table)
        found = {option: asdict(best)[option] for option in cfg.inference.refine.search}
        words = " ".join(f"inference.refine.{option}={value}" for option, value in found.items())
        console.say(f"best refinement: {words} (mIoU {100 * miou:.2f} on the images of the search; all: {table})")
        chosen = {f"inference.refine.{option}": value for option, value in {**found, "search": None}.items()}
        scored = with_values(cfg, chosen)
    tester.test(module, datamodule, verbose=False)
    if tester.is_global_zero:
        console.pictures(module.test_scores, space, run_dir, stage=cfg.split)
    return module.test_scores.miou


def _check_classes(cfg: DictConfig, trained: LabelSpace, given: LabelSpace) -> None:
    """Raise a ``UserError`` if the classes of the data are not the checkpoint's."""
    if trained.names != given.names:
        raise UserError(
            f"{cfg.ckpt} was trained on {trained.num_classes} classes ({', '.join(trained.names[:4])}, ...) but data"
            f" '{cfg.data.name}' has {given.num_classes} ({', '.join(given.names[:4])}, ...); evaluate it on data with"
            " its own classes"
        )


def compare(cfg: DictConfig) -> float:
    """Compares two run folders on the same images, writes ``comparison.json``; returns the difference of their mIoU."""
    result = compare_runs(*cfg.compare, split=cfg.split, resamples=max(1000, 10 * cfg.bootstrap))
    path = Path(cfg.run_dir) / COMPARISON
    write_bytes(path, (json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())
    console.say(f"{comparison_table(result)}\ncomparison: {path}")
    return result["difference"]
