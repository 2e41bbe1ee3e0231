"""Values that no run can have are refused before anything is built."""

from __future__ import annotations

import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError

__all__ = ["check_options"]

_LEAST_WHOLE = {  # option -> the least whole number that it may be
    "seed": 0,
    "bootstrap": 0,
    "worst": 0,
    "worst_images": 0,
    "search_images": 1,
    "data.batch_size": 1,
    "data.eval_batch_size": 1,
    "trainer.max_epochs": -1,
    "trainer.max_steps": -1,
    "trainer.log_every_n_steps": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
}
_NOT_NEGATIVE = ("optimizer.lr", "optimizer.weight_decay", "schedule.warmup_steps", "schedule.warmup_start")
_NUMBERS = ("schedule.power", "schedule.floor", "schedule.factor", "norms.momentum", "norms.eps")  # limits: see there


def check_options(cfg: DictConfig) -> None:
    """Checks what ``cfg`` has of the options that are numbers or choices.

    Raises:
        UserError: naming the option, its value and what it may be.
    """
    _check_multirun(cfg)
    _check_restarts()
    for name, least in _LEAST_WHOLE.items():
        value = OmegaConf.select(cfg, name, default=least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{name}={value} must be a whole number of {least} or more")
    for name in _NOT_NEGATIVE:
        value = OmegaConf.select(cfg, name, default=0)
        if not isinstance(value, int | float) or value < 0:
            raise UserError(f"{name}={value} must be a number of 0 or more")
    for name in _NUMBERS:
        value = OmegaConf.select(cfg, name, default=0)
        if not isinstance(value, int | float | None):
            raise UserError(f"{name}={value} must be a number")
    for name in ("trainer.max_epochs", "trainer.max_steps"):
        if OmegaConf.select(cfg, name, default=-1) == 0:
            raise UserError(f"{name}=0 trains nothing; use 1 or more, or -1 for no limit")
    reference = OmegaConf.select(cfg, "optimizer.reference_batch")
    if reference is not None and (not isinstance(reference, int | float) or reference <= 0):
        raise UserError(f"optimizer.reference_batch={reference} must be a number of images, or null")
    least = OmegaConf.select(cfg, "data.min_confidence")
    if least is not None and (not isinstance(least, int | float) or not 0 < least <= 1):
        raise UserError(f"data.min_confidence={least} must lie in (0, 1]; null keeps every label")
    limit = cfg.get("limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise UserError(f"limit={limit} must be a whole number of 1 or more, or null for all")
    _check_others(cfg)


def _check_multirun(cfg: DictConfig) -> None:
    """Refuses ``--multirun`` with several processes: each of them would run a sweep of its own, and mix trials."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN or cfg.get("trainer") is None:
        return
    devices, cpu = cfg.trainer.get("devices"), cfg.trainer.get("accelerator") == "cpu"
    one = devices in (1, "1", None) or (devices == "auto" and cpu) or (OmegaConf.is_list(devices) and len(devices) == 1)
    started = max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))  # torchrun, srun
    nodes = cfg.trainer.get("num_nodes", 1)
    if not one or nodes != 1 or started > 1:
        given = f"{started} processes were started" if started > 1 else f"trainer.devices={devices} on {nodes} nodes"
        raise UserError(
            f"--multirun runs on one device, and {given}; use python -m src.sweep sweep=<name> sweep.devices=<devices"
            " of a trial>, by itself and without torchrun or srun: it starts each trial"
        )


def _check_restarts() -> None:
    """Processes that torchrun starts again would find addresses of those before in the store (pytorch issue 135712)."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0)
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"torchrun --max-restarts={restarts} needs `export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` before:"
            " without it, processes that are started again may not find each other"
        )


def _check_others(cfg: DictConfig) -> None:
    root = OmegaConf.select(cfg, "data.root", default=...)  # a list for own folders; generated scenes have none
    if root is not ... and not root:
        raise UserError(f"data.root={root} names no folder; set it to the folder that holds the data set")
    workers = OmegaConf.select(cfg, "data.num_workers", default=0)
    if workers != "auto" and (not isinstance(workers, int) or workers < 0):
        raise UserError(f"data.num_workers={workers} must be auto or a whole number of 0 or more")
    for name, weight in (OmegaConf.select(cfg, "model.aux_weights") or {}).items():
        if not isinstance(weight, int | float | None):
            raise UserError(f"model.aux_weights.{name}={weight} must be a number, or null for none")
    ema = cfg.get("ema")
    if ema is not None and (isinstance(ema, bool | str) or not 0 < ema < 1):
        raise UserError(f"ema={ema} must be a decay between 0 and 1, such as 0.999, or null")
    if cfg.get("score", "best") not in ("best", "last"):
        raise UserError(f"score={cfg.score} is unknown; use best or last")
