"""Callbacks of a run: checkpoints, history, charts, panels, page, progress, throughput, and what ends it early.

The trainer calls callbacks in the order of its list, and each needs what those before it logged or wrote:
``Throughput``, ``History``, ``Charts``, ``Panels``, ``Progress``. Files are written by the first device only.
"""

from src.callbacks.charts import Charts
from src.callbacks.checkpoints import LastCheckpoint, MovableCheckpoint
from src.callbacks.evaluation import Evaluation
from src.callbacks.experiment_loggers import Dashboards
from src.callbacks.history import History
from src.callbacks.html_report import Page
from src.callbacks.largest_image_first import LargestFirst
from src.callbacks.non_finite_loss import FiniteLoss
from src.callbacks.panels import Panels
from src.callbacks.progress import Progress
from src.callbacks.stop_on_signal import StopOnSignal, only_own_handlers
from src.callbacks.throughput import Throughput, throughput_of
from src.callbacks.time_limits import Deadline, TimeLimit

__all__ = [
    "Charts",
    "Dashboards",
    "Deadline",
    "Evaluation",
    "FiniteLoss",
    "History",
    "LargestFirst",
    "LastCheckpoint",
    "MovableCheckpoint",
    "Page",
    "Panels",
    "Progress",
    "StopOnSignal",
    "Throughput",
    "TimeLimit",
    "only_own_handlers",
    "throughput_of",
]
