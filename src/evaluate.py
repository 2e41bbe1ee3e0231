"""Score a checkpoint on any split: ``python -m src.evaluate ckpt=PATH [split=val]``."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from src.cli import command, offer, value_of
from src.errors import UserError


def prepare(overrides: list[str]) -> tuple[str, list[str]]:
    """Makes the data, the inference and the scales around the net of ``ckpt=...`` the defaults for overrides."""
    ckpt = value_of("ckpt", overrides)
    saved = {}
    if ckpt:
        from src.restore import saved_config  # imports torch, which --help need not wait for

        saved = OmegaConf.to_container(saved_config(ckpt), resolve=False)
    for group in ("data", "inference"):
        offer(group, "checkpoint", saved.get(group, {}))
    offer("model/scales", "checkpoint", saved.get("model", {}).get("scales") or {})
    return "evaluate", overrides


def evaluate(cfg: DictConfig) -> float:
    """Scores ``cfg.ckpt`` on ``cfg.split``; returns its mIoU."""
    from src import build, report, restore

    started = time.perf_counter()
    report.quiet()
    module = restore.load_module(cfg.ckpt, inference=cfg.inference, model=cfg.model)
    splits = cfg.data.splits
    cfg.data.splits = {"test": splits.get(cfg.split, [cfg.split])}
    datamodule = build.build_datamodule(cfg)
    expected, found = module.label_space.names, datamodule.test_dataset.source.label_space.names
    if expected != found:
        raise UserError(
            f"{cfg.ckpt} was trained on {len(expected)} classes ({', '.join(expected[:4])}, ...) but data"
            f" '{cfg.data.name}' has"
            f" {len(found)} ({', '.join(found[:4])}, ...); evaluate it on data with its own classes"
        )
    tester = build.build_tester(cfg)
    tester.test(module, datamodule, verbose=False)
    if tester.is_global_zero:
        report.write_start(cfg, Path(cfg.run_dir))
        report.scores(
            module.test_scores,
            module.label_space,
            Path(cfg.run_dir),
            stage=cfg.split,
            seconds=time.perf_counter() - started,
        )
    return module.test_scores.miou


if __name__ == "__main__":
    command("evaluate", evaluate, prepare=prepare)
