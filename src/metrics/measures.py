"""What one test measures beside the confusion matrix."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .bootstrap import Interval
from .boundary import BoundaryScores
from .calibration import Calibration
from .per_image import PerImage

__all__ = ["Measures"]


@dataclass(frozen=True)
class Measures:
    """All of one test, over all devices.

    Args:
        images: counts of each image.
        sizes: (height, width) -> how many labels had it when they were scored.
        calibration: of the top class's probability.
        boundary: ``None`` where it was not asked for.
        interval: of the mean IoU over images; ``None`` for a single image.
    """

    images: PerImage
    sizes: Counter[tuple[int, int]]
    calibration: Calibration
    boundary: BoundaryScores | None = None
    interval: Interval | None = None
