"""Speed and memory of a net: ``python -m src.benchmark model=NAME|ckpt=PATH [size=[512,1024]]``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from ..build import from_checkpoint, from_config
from ..build.config_values import as_plain
from ..build.from_checkpoint import saved_config
from ..cli.scored_size import size_overrides
from ..errors import UserError
from ..files.atomic import write_bytes
from ..models.net import Net
from ..models.normalize import Normalize
from ..profiling.latency import kinds_of_net, kinds_of_onnx, measure
from ..profiling.latency_table import latency_table
from ..profiling.model_cost import multiply_adds, parameters
from ..reports import console
from ..runtime.environment import choose_device, environment


def benchmark(cfg: DictConfig) -> list[dict[str, Any]]:
    """Measures every kind of run in turn, prints a table, writes ``benchmark.json``; returns its rows."""
    files = _several(cfg.onnx)
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"onnx={file}: there is no such file; src.export writes one")
    console.quiet()
    device, size = choose_device(cfg.device), list(cfg.size)
    name, net, normalize = _subject(cfg)
    costs = {"parameters": parameters(net), "multiply_adds": multiply_adds(net, size)[0]}
    images = [torch.randint(256, (count, 3, *size), dtype=torch.uint8) for count in _several(cfg.batch_size)]
    how = {"modes": _several(cfg.mode), "precisions": _several(cfg.precision), "device": device}
    kinds = list(kinds_of_net(net, normalize, images, multiply_adds=costs["multiply_adds"], **how))
    for file in files:
        kinds += kinds_of_onnx(file, images, device)
    measure(kinds, device, warmup=cfg.warmup, repeats=cfg.repeats)
    rows = [kind.row() for kind in kinds]
    result = {"subject": name, "size": size, **costs, "rows": rows, "environment": environment()}
    path = Path(cfg.out) / "benchmark.json"
    write_bytes(path, (json.dumps(result, indent=1) + "\n").encode())
    console.say(f"{latency_table(result, repeats=cfg.repeats, device=cfg.device)}\n{path}")
    return rows


def _several(value: Any) -> list[Any]:
    """The values of an option that takes one or several."""
    if OmegaConf.is_list(value):
        return list(value)
    return [] if value is None else [value]


def _subject(cfg: DictConfig) -> tuple[str, Net, Normalize]:
    """Name, net in evaluation mode, normalisation."""
    if cfg.ckpt is not None:
        _say_size(cfg)
        module = from_checkpoint.load_module(cfg.ckpt)
        return str(cfg.ckpt), module.net.float(), module.normalize
    net = cast("Net", from_config.build_net(from_config.without_download(cfg)).eval())
    return str(cfg.model.name), net, Normalize([0.45] * 3, [0.25] * 3)


def _say_size(cfg: DictConfig) -> None:
    """Prints a note if the checkpoint was scored at a size of its own, since here the net sees ``size``."""
    if scored := size_overrides(as_plain(saved_config(cfg.ckpt), resolve=False), []):
        words = ", ".join(item.lstrip("+") for item in scored)
        print(f"note: the checkpoint was scored with {words}; here the net sees size={list(cfg.size)}", flush=True)
