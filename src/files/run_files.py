"""The names of the files in a run's folder."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BEST_CHECKPOINT", "COMPARISON", "CONFIG", "CRF_SEARCH", "ENVIRONMENT", "HISTORY", "LAST_CHECKPOINT",
    "LATEST_PANEL", "PANELS", "REPORT", "VALIDATION", "WANDB_ID", "WORST", "WORST_IMAGES", "charts_folder",
    "per_image_file", "scores_file",
]  # fmt: skip

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
HISTORY = "metrics.csv"
LAST_CHECKPOINT, BEST_CHECKPOINT = Path("checkpoints/last.ckpt"), Path("checkpoints/best.ckpt")
VALIDATION = "validation.json"  # scores of the last validation
REPORT = "report.html"
COMPARISON = "comparison.json"
CRF_SEARCH = "refine_search.csv"
PANELS, LATEST_PANEL = "panels", "panels/latest.png"
WORST, WORST_IMAGES = "worst", "worst_images"
WANDB_ID = "wandb_id.txt"


def scores_file(split: str) -> str:
    """The file of a split's scores; ``"*"`` makes a pattern."""
    return f"scores_{split}.json"


def per_image_file(split: str) -> str:
    """The file of a split's counts of each image; ``"*"`` makes a pattern."""
    return f"per_image_{split}.csv"


def charts_folder(split: str) -> str:
    """The folder of a split's charts; those of training and validation are together."""
    return "charts" if split == "val" else f"charts_{split}"
