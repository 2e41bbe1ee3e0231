"""One confusion matrix, and scores as pure functions of it; what else says how good and how sure a prediction is."""

from .bootstrap import Comparison, Interval, bootstrap, compare
from .boundary import BoundaryCounts, BoundaryScores
from .calibration import Calibration, CalibrationCounts
from .confusion import ConfusionMatrix
from .measures import Measures
from .per_image import PerImage
from .scores import Scores
from .shared_means import SharedMeans

__all__ = [
    "BoundaryCounts",
    "BoundaryScores",
    "Calibration",
    "CalibrationCounts",
    "Comparison",
    "ConfusionMatrix",
    "Interval",
    "Measures",
    "PerImage",
    "Scores",
    "SharedMeans",
    "bootstrap",
    "compare",
]
