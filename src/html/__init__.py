"""Pages about runs as single HTML files: nothing is loaded from elsewhere, and every text of the data is escaped."""

from src.html.compare import runs_below, write_comparison
from src.html.page import REPORT, refresh_page, write_page
from src.html.remarks import remark
from src.html.run_folder import Run

__all__ = ["REPORT", "Run", "refresh_page", "remark", "runs_below", "write_comparison", "write_page"]
