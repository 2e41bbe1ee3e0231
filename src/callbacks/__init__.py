"""What a run leaves for people to look at: history, charts, panels, page, progress, speed and the final table.

The trainer calls callbacks in the order of its list, and each needs what those before it logged or wrote:
``Throughput``, ``History``, ``Charts``, ``Panels``, ``Progress``. Files are written by the first device only.
"""

from src.callbacks.charts import Charts, draw_curves, draw_scores
from src.callbacks.dashboards import Dashboards
from src.callbacks.deadline import Deadline
from src.callbacks.evaluation import Evaluation
from src.callbacks.finite import FiniteLoss
from src.callbacks.history import History
from src.callbacks.images import Panels
from src.callbacks.largest_first import LargestFirst
from src.callbacks.last import LastCheckpoint
from src.callbacks.movable import MovableCheckpoint
from src.callbacks.page import Page
from src.callbacks.progress import Progress
from src.callbacks.scores import summary_table, write_scores
from src.callbacks.stop import StopOnSignal, only_own_handlers
from src.callbacks.throughput import Throughput
from src.callbacks.time_limit import TimeLimit

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
    "draw_curves",
    "draw_scores",
    "only_own_handlers",
    "summary_table",
    "write_scores",
]
