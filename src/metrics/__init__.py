"""One confusion matrix, and scores as pure functions of it."""

from src.metrics.confusion import ConfusionMatrix
from src.metrics.scores import Scores

__all__ = ["ConfusionMatrix", "Scores"]
