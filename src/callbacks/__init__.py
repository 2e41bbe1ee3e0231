"""What a run leaves for people to look at: history, charts, panels, progress, speed and the final table.

The trainer calls callbacks in the order of its list, and each needs what those before it logged or wrote:
``Throughput``, ``History``, ``Charts``, ``Panels``, ``Progress``. Files are written by the first device only.
"""

from src.callbacks.charts import Charts, draw_curves, draw_scores
from src.callbacks.evaluation import Evaluation
from src.callbacks.history import History
from src.callbacks.images import Panels
from src.callbacks.largest_first import LargestFirst
from src.callbacks.progress import Progress
from src.callbacks.scores import summary_table, write_scores
from src.callbacks.throughput import Throughput

__all__ = [
    "Charts",
    "Evaluation",
    "History",
    "LargestFirst",
    "Panels",
    "Progress",
    "Throughput",
    "draw_curves",
    "draw_scores",
    "summary_table",
    "write_scores",
]
