"""Options that no command can have are refused before anything is built or written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import UserError
from ..schema.commands import model_of
from ..schema.faults import Fault, model_faults, not_finite
from ..schema.rules import rule_faults
from .config_values import as_plain

__all__ = ["check_launch", "check_line", "check_options", "several_processes"]


def check_line(command: str, config_dir: str, config_name: str, overrides: list[str]) -> bool:
    """Composes and checks what a command line asks for, before Hydra makes a folder for it.

    Args:
        command: name of its root config.
        config_dir: absolute path of the folder of configs.
        config_name: root config composed in its place, such as that of a run to resume.
        overrides: of the command line.

    Returns:
        Whether that could be done. Flags of Hydra's, such as ``--multirun`` and ``--cfg``, are left to Hydra.

    Raises:
        UserError: as ``check_options``.
    """
    if any(item.startswith("-") for item in overrides):
        return False
    try:
        with hydra.initialize_config_dir(config_dir, version_base="1.3"):
            cfg = hydra.compose(config_name, overrides, return_hydra_config=True)
    except (TypeError, AttributeError, AssertionError) as error:  # Hydra's, for a group that is no name
        raise UserError(
            "a group must be the name of one of its options, or a list of names (--help lists them)"
        ) from error
    OmegaConf.set_readonly(cfg.hydra, False)
    cfg.hydra.runtime.output_dir = "."  # has no name yet
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        with open_dict(cfg):
            del cfg["hydra"]
        check_options(command, cfg)
    finally:
        HydraConfig.instance().cfg = before
    return True


def check_options(command: str, cfg: DictConfig, *, built: bool = True) -> None:
    """Checks every option of a command: type, range, choices, rules between them, and limits of this machine.

    Args:
        command: name of the root config.
        cfg: what was composed for it; it is only read.
        built: whether what is built from it is checked as well, which imports it.

    Raises:
        UserError: naming the first option that cannot be, as it is typed on the command line, its value, what it may
            be, and how many more there are.
    """
    check_launch(cfg)
    raw = as_plain(cfg, resolve=False)
    model = model_of(command, raw)
    if model is None:
        return
    if model.model_config.get("extra") == "ignore":
        cfg = OmegaConf.masked_copy(cfg, [name for name in model.model_fields if name in cfg])
    values = _without_missing(as_plain(cfg))
    found = model_faults(model, values) or _further_faults(command, values, built=built)
    lines: dict[tuple[str, ...], str] = {}
    for fault in found:
        lines.setdefault(_typed(raw, fault.path), fault.sentence)
    data = values.get("data")
    if isinstance(data, Mapping) and data.get("num_classes") is None:
        lines.pop(("data", "num_classes"), None)  # which the data will tell
    if isinstance(data, Mapping) and isinstance(data.get("class_weights"), str):
        lines.pop(("data", "class_weights"), None)  # a rule, which the labels will replace by numbers
    if lines:
        path, sentence = next(iter(lines.items()))
        more = f" ({len(lines) - 1} more to correct)" if len(lines) > 1 else ""
        raise UserError(f"{'.'.join(path)}{sentence}{more}")


def _further_faults(command: str, values: Mapping[str, Any], *, built: bool) -> list[Fault]:
    """What is wrong with ``values`` where each option has the right type."""
    found: list[Fault] = []
    if built:
        from .allowed import target_faults  # imports torch, which --help need not wait for

        found += target_faults(values)
    return [*found, *rule_faults(command, values), *not_finite(values)]


def _without_missing(node: Any) -> Any:
    """``node`` without options that wait for a value."""
    if isinstance(node, list):
        return [_without_missing(each) for each in node]
    if isinstance(node, Mapping):
        return {name: _without_missing(value) for name, value in node.items() if value != "???"}
    return node


def _typed(raw: Mapping[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """The option that is typed to set the one at ``path``, which may take its value from another."""
    seen = {path}
    while True:
        node: Any = raw
        for name in path:
            node = node.get(name) if isinstance(node, Mapping) else None
        taken = re.fullmatch(r"\$\{([\w.]+)\}", node) if isinstance(node, str) else None
        if taken is None or (further := tuple(taken[1].split("."))) in seen:
            return path
        path = further
        seen.add(path)


def check_launch(cfg: DictConfig) -> None:
    """Checks how processes were started.

    Raises:
        UserError: for ``--multirun`` with several processes, each of which would run a sweep of its own, or for
            restarts by torchrun without the setting that they need.
    """
    _check_restarts()
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN or cfg.get("trainer") is None:
        return
    if several := several_processes(cfg):
        raise UserError(
            f"--multirun runs on one device, and {several}; use python -m src.sweep sweep=<name> sweep.devices=<devices"
            " of a trial>, by itself and without torchrun or srun: it starts each trial"
        )


def several_processes(cfg: DictConfig) -> str:
    """What makes a run one of several processes, by its ``trainer`` or by who started it; else an empty text."""
    devices, cpu = cfg.trainer.get("devices"), cfg.trainer.get("accelerator") == "cpu"
    one = devices in (1, "1", None) or (devices == "auto" and cpu) or (OmegaConf.is_list(devices) and len(devices) == 1)
    started = max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))  # torchrun, srun
    nodes = cfg.trainer.get("num_nodes", 1)
    if started > 1:
        return f"{started} processes were started"
    return "" if one and nodes == 1 else f"trainer.devices={devices} on {nodes} nodes"


def _check_restarts() -> None:
    """Processes that torchrun starts again would find addresses of those before in the store (pytorch issue 135712)."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0)
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"torchrun --max-restarts={restarts} needs `export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` before:"
            " without it, processes that are started again may not find each other"
        )
