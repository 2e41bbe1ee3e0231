"""Cost of the nets of a sweep: counted, and timed in turn on a device of the kind that the trials ran on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field

from ..build.config_values import as_config, as_plain
from ..build.from_config import build_net, without_download
from ..errors import UserError
from ..files.atomic import write_bytes
from ..files.json_schema import Finite, Line, Open
from ..files.untrusted import read_json, read_yaml
from ..models.net import Net
from ..models.normalize import Normalize
from ..runtime.bars import tqdm
from ..runtime.environment import environment
from ..sweeps import Cost, Costs, Result
from .latency import Kind, once, phases
from .model_cost import multiply_adds, parameters_without_aux

__all__ = ["trial_costs"]

_FILE = "latency.json"
_ROUNDS, _RUNS, _SECONDS = 3, 10, 2.0  # in each round a net runs so often, or for so long, after one run that warms up


class _Timing(Open):
    about: Line
    seconds: dict[str, list[Annotated[Finite, Field(gt=0)]]]


def trial_costs(found: Sequence[Result], folder: Path, *, idle: bool) -> Costs:
    """Counts and times the net of every row that has begun.

    Args:
        found: rows of the sweep in ``folder``, where the figures of an earlier timing are kept, in ``latency.json``.
        folder: of the sweep.
        idle: whether nets may be timed: no trial runs here.
    """
    names = {each.row.index: each.row.name for each in found}
    read = {each.row.index: _tried(_read, each.config, each.row.name) for each in found if each.config is not None}
    configs = {index: cfg for index, cfg in read.items() if cfg is not None}
    keys = {index: _key(cfg) for index, cfg in configs.items()}
    counted = {index: _tried(_counted, cfg, names[index]) for index, cfg in configs.items()}
    of = {index: cost for index, cost in counted.items() if cost is not None}
    device, reason = _device(found, idle)
    known = _known(folder / _FILE, {keys[index] for index in of})
    if known is None and device is not None:
        seconds = _timed({keys[index]: configs[index] for index in of}, device)
        known = _Timing(about=_about(device), seconds=seconds)
        write_bytes(folder / _FILE, (json.dumps(known, indent=1) + "\n").encode())
    if known is None:
        return Costs(of, reason)
    runs = {index: tuple(known["seconds"].get(keys[index], ())) for index in of}
    return Costs({index: dataclasses.replace(cost, seconds=runs[index]) for index, cost in of.items()}, known["about"])


def _read(path: Path) -> Any:
    """A trial's config, from which only the net is built."""
    cfg = as_config(read_yaml(path, remedy="its net is not measured"))
    if "${" in path.read_text(encoding="utf-8"):
        raise UserError(f"{path}: is not resolved; give the config.yaml that src.train has written")
    _key(cfg)  # has what is read below
    return cfg


def _tried(measure: Callable[..., Any], given: Any, name: str, *others: Any) -> Any:
    """What ``measure`` gives; ``None`` if it fails, so that one net does not cost days of training their table."""
    try:
        return measure(given, *others)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        tqdm.write(f"warning: {name} is not measured ({type(error).__name__}: {reason})", file=sys.stderr)
        return None


def _size(cfg: Any) -> list[int]:
    """Height and width of what the net sees in training."""
    return list(cfg.transforms.output_size or cfg.transforms.crop_size)


def _counted(cfg: Any) -> Cost:
    with torch.device("meta"):
        net = cast("Net", build_net(without_download(cfg)).eval())
    return Cost(parameters_without_aux(net), multiply_adds(net, _size(cfg))[0])


def _key(cfg: Any) -> str:
    """The same for configs whose nets take the same time."""
    parts = [cfg.model.net, cfg.model.get("scales"), cfg.get("output_stride"), cfg.get("norms"), cfg.data.num_classes]
    plain = [as_plain(part) for part in parts]
    return hashlib.sha256(json.dumps([plain, _size(cfg)], sort_keys=True).encode()).hexdigest()[:16]


def _device(found: Sequence[Result], idle: bool) -> tuple[str | None, str]:
    """Where to time, or why not."""
    ran_on = set().union(*(result.devices for result in found))
    if not ran_on:
        return None, "not timed: no trial has ended"
    if not idle:
        return None, "not timed while trials run; report= does it once they have ended"
    if ran_on == {"cpu"}:
        return "cpu", ""
    if torch.cuda.is_available():
        return "cuda", ""
    return None, f"not timed: trials ran on {', '.join(sorted(ran_on))}; report= on a machine with a GPU does it"


def _known(path: Path, keys: set[str]) -> _Timing | None:
    """An earlier timing, if it has all nets: figures of two timings are not comparable."""
    known = read_json(path, _Timing, remedy="remove it, and nets are timed again") if path.is_file() else None
    return known if known and keys <= known["seconds"].keys() else None


def _timed(configs: dict[str, Any], device: str) -> dict[str, list[float]]:
    """Seconds of each run of each net; nets take turns, and only one is in memory."""
    seconds: dict[str, list[float]] = {key: [] for key in configs}
    turns = [key for _ in range(_ROUNDS) for key in configs]
    with torch.inference_mode():
        for key in tqdm(turns, desc="timing nets", disable=None, leave=False):
            seconds[key] += _tried(_runs, configs[key], str(configs[key].model.name), device) or []
    return seconds


def _runs(cfg: Any, device: str) -> list[float]:
    """A whole prediction of one image, from uint8 in the host's memory to classes there."""
    net = cast("Net", build_net(without_download(cfg)).eval().to(device))
    normalize = Normalize([0.45] * 3, [0.25] * 3).to(device)
    image = torch.randint(256, (1, net.in_channels, *_size(cfg)), dtype=torch.uint8)
    kind = Kind("", 1, phases(net, normalize, "eager", torch.float32, torch.contiguous_format), image)
    once(kind, device, keep=False)
    begun = time.perf_counter()
    while len(kind.seconds.get("net", ())) < _RUNS and time.perf_counter() - begun < _SECONDS:
        once(kind, device, keep=True)
    return [sum(run) for run in zip(*kind.seconds.values(), strict=True)]


def _about(device: str) -> str:
    """How and on what nets were timed."""
    about = environment()
    where = about["device"] + (f", {about['threads']} thread(s)" if device == "cpu" else "")
    return (
        f"median of up to {_ROUNDS * _RUNS} predictions of one image of a training crop's size, float32, nets in turn,"
        f" on {where}, torch {about['packages']['torch']}, {about['time'][:10]}"
    )
