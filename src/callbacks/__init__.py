"""Callbacks of a run: checkpoints, history, charts, panels, page, progress, throughput, and what ends it early.

The trainer calls callbacks in the order of its list, and each needs what those before it logged or wrote:
``Throughput``, ``History``, ``Charts``, ``Panels``, ``Progress``. Files are written by the first device only.
"""

from .charts import Charts
from .checkpoints import LastCheckpoint, MovableCheckpoint
from .evaluation import Evaluation
from .experiment_loggers import Dashboards
from .history import History
from .html_report import Page
from .largest_image_first import LargestFirst
from .non_finite_loss import FiniteLoss
from .panels import Panels
from .progress import Progress
from .stop_on_signal import StopOnSignal, only_own_handlers
from .throughput import Throughput, throughput_of
from .time_limits import Deadline, TimeLimit

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
