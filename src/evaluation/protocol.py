"""How a score was measured, in plain containers: what two figures must share to be comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ..checkpoints.bundle import identity
from ..data import SegmentationDataModule
from ..hub.resolve import origin
from ..metrics import Measures
from ..reports.scores_file import rules
from ..runtime.environment import environment
from ..training.module import segmentation_module

__all__ = ["differences", "protocol"]

_SIZES = 8  # named one by one; there may be as many as images


def protocol(
    config: Mapping[str, Any],
    trainer: pl.Trainer,
    *,
    datamodule: SegmentationDataModule,
    stage: str,
    measures: Measures,
    checkpoint: Path | None,
) -> dict[str, Any]:
    """The stamp that goes with every score.

    Args:
        config: of the run, resolved; ``data``, ``inference``, ``model.scales`` and ``output_stride`` are read.
        trainer: after its test.
        datamodule: of the data.
        stage: of ``datamodule`` that was scored.
        measures: of the test.
        checkpoint: file or bundle of the weights, if there is one.
    """
    module = segmentation_module(trainer.lightning_module)
    edge, surroundings = config["data"].get("eval_long_edge"), environment()
    window = module.inference.window
    sizes = measures.sizes
    if edge is not None:  # scored at another size than that of the files
        sources = datamodule.sources(stage)
        sizes = Counter(source.size(index) for source in sources for index in range(len(source)))
    forced = window is not None and not config["inference"].get("window")
    return {
        "data": config["data"]["name"],
        "splits": list(datamodule.splits[stage]),
        "images": len(measures.images),
        "sizes_scored": _named(measures.sizes),
        "sizes_of_files": _named(sizes),
        "resize": "none" if edge is None else f"images and labels to a longer side of {edge}",
        "seen_at": {"short_side": module.inference.short_side, "long_side": module.inference.long_side},
        "min_confidence": config["data"].get("min_confidence"),
        "ignore": "truth 255 counts nowhere",
        "mean": "over classes in truth or prediction, from the sum of all images' pixels",
        "absent_classes": [module.label_space.names[index] for index in module.test_scores.absent],
        "inference": config["inference"],
        "padded_to_multiple_of": module.inference.multiple,  # files of before it was an option do not name it
        "output_stride": config.get("output_stride"),
        "window_for_lack_of_memory": list(window.size) if forced else None,
        "scales_of_net": config["model"].get("scales") or {},
        "precision": str(trainer.precision),
        "device": surroundings["device"] if trainer.strategy.root_device.type == "cuda" else "cpu",
        "devices": trainer.world_size,
        "checkpoint": None if checkpoint is None else _named_file(checkpoint),
        "commit": surroundings["commit"],
        "versions": {"python": surroundings["python"], **surroundings["packages"]},
        "date": surroundings["time"],
    }


def _named_file(checkpoint: Path) -> dict[str, str]:
    """Path and digest, and the pinned address that it was downloaded from."""
    address = origin(checkpoint)
    named = {"path": str(checkpoint), "sha256": identity(checkpoint)}
    return named if address is None else {**named, "from": address}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entry -> its value in each of two stamps, where a rule of measuring differs."""
    names = rules({**first, **second})
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def _named(sizes: Counter[tuple[int, int]]) -> dict[str, int]:
    """``"<width>x<height>"`` -> images, the commonest sizes first; the rest together."""
    named = {f"{width}x{height}": count for (height, width), count in sizes.most_common(_SIZES)}
    rest = sizes.total() - sum(named.values())
    return named | ({"others": rest} if rest else {})
