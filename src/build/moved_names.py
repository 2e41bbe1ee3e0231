"""Names of 0.1.0 and earlier, as checkpoints and configs of that time have them in ``_target_``."""

from __future__ import annotations

__all__ = ["MOVED", "current_name"]

MOVED = {  # module -> where it is now
    "src.callbacks.dashboards": "src.callbacks.experiment_loggers",
    "src.callbacks.finite": "src.callbacks.non_finite_loss",
    "src.callbacks.images": "src.callbacks.panels",
    "src.callbacks.largest_first": "src.callbacks.largest_image_first",
    "src.callbacks.last": "src.callbacks.checkpoints",
    "src.callbacks.last_checkpoint": "src.callbacks.checkpoints",
    "src.callbacks.movable": "src.callbacks.checkpoints",
    "src.callbacks.movable_checkpoint": "src.callbacks.checkpoints",
    "src.callbacks.page": "src.callbacks.html_report",
    "src.callbacks.stop": "src.callbacks.stop_on_signal",
    "src.callbacks.worst": "src.callbacks.worst_images",
    "src.data.ade20k": "src.data.sets.ade20k",
    "src.data.camvid": "src.data.sets.camvid",
    "src.data.cityscapes": "src.data.sets.cityscapes",
    "src.data.cityscapes_extra": "src.data.sets.cityscapes_extra",
    "src.data.coco_stuff": "src.data.sets.coco_stuff",
    "src.data.folder": "src.data.folder.source",
    "src.data.mapillary": "src.data.sets.mapillary",
    "src.data.pascal_context": "src.data.sets.pascal_context",
    "src.data.random_crop": "src.data.augment.random_crop",
    "src.data.sampling": "src.data.sampling.samplers",
    "src.data.sampling.shard_order": "src.data.sampling.samplers",
    "src.data.shard_order": "src.data.sampling.samplers",
    "src.data.shards": "src.data.shards.source",
    "src.data.toy_streets": "src.data.sets.toy_streets",
    "src.data.transforms": "src.data.augment.pipeline",
    "src.data.voc": "src.data.sets.voc",
    "src.inference.pipeline": "src.inference.engine",
    "src.inference.rows": "src.inference.lazy_rows",
    "src.inference.sizes": "src.inference.input_size",
    "src.inference.windows": "src.inference.sliding_window",
    "src.losses.smp": "src.losses.smp_losses",
    "src.models.asymmetric_block": "src.models.ann_layers",
    "src.models.pooled_scales": "src.models.multi_scale_pooling",
    "src.models.pooling": "src.models.adaptive_pooling",
    "src.models.samplers": "src.models.ann_samplers",
    "src.models.scale_attention": "src.models.multi_scale_attention",
    "src.models.scales": "src.models.multi_scale",
    "src.wandb_logger": "src.loggers.wandb",
}


def current_name(target: str) -> str:
    """The name that what ``target`` names has today; ``target`` itself where that has not changed.

    An installed project's own name, ``semseg``, stands for ``src``, so that its users may write either.
    """
    if target.startswith("semseg."):
        target = f"src.{target.removeprefix('semseg.')}"
    module, _, name = target.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target
