"""Write a data set as shards for object storage: ``python -m src.shards data=NAME data.root=PATH out=FOLDER``.

They are read back with ``data=shards data.root=FOLDER``.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..build import allowed
from ..build.instantiate import instantiate
from ..data.shards.index import ShardIndex
from ..data.shards.writer import write_shards
from ..errors import UserError


def shards(cfg: DictConfig) -> None:
    """Writes each split named, says how to train on it, and lists at the end what could not be read."""
    make, out, left_out = instantiate(cfg.data.dataset, allowed.DATA), Path(cfg.out), []
    splits = list(cfg.split) if OmegaConf.is_list(cfg.split) else [cfg.split]
    for split in splits:
        index = write_shards(make(split=split), out, split=split, shard_mb=cfg.shard_mb, progress=True)
        print(_summary(index, out), flush=True)
        left_out += [line for shard in index.shards for line in shard.left_out]
    print(f"read them with: {_options(cfg, out)}", flush=True)
    if left_out:
        raise UserError(
            "files were left out; correct them and write the shards again, or train without them:\n  "
            + "\n  ".join(left_out)
        )


def _summary(index: ShardIndex, out: Path) -> str:
    size = sum(shard.bytes for shard in index.shards)
    return f"{index.split}: {index.samples} samples in {len(index.shards)} shards, {size / 1e6:.1f} MB: {out}"


def _options(cfg: DictConfig, out: Path) -> str:
    """The options that read these shards as the data set was read."""
    given = [f"data=shards data.root={out}"]
    for name in ("mean", "std", "scale", "crop_size"):
        given.append(f"'data.{name}={[*cfg.data[name]]}'")
    order = cfg.data.get("channel_order", "rgb")
    if order != "rgb":
        given.append(f"data.channel_order={order}")
    return " ".join(given)
