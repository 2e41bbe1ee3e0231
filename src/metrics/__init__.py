"""One confusion matrix, and scores as pure functions of it; what else says how good and how sure a prediction is."""

from src.metrics.bootstrap import Comparison, Interval, bootstrap, compare
from src.metrics.boundary import BoundaryCounts, BoundaryScores
from src.metrics.calibration import Calibration, CalibrationCounts
from src.metrics.confusion import ConfusionMatrix
from src.metrics.measures import Measures
from src.metrics.per_image import PerImage
from src.metrics.scores import Scores
from src.metrics.shared_means import SharedMeans

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
