"""Pages about finished or running runs: ``python -m src.dashboard run=FOLDER``, ``compare=[FOLDER,FOLDER]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..files.output_paths import check_output_file
from ..reports.compare_page import write_comparison
from ..reports.page import write_page
from ..reports.run_folder import runs_below


def dashboard(cfg: DictConfig) -> Path:
    """Writes ``report.html`` of ``cfg.run``, or the comparison of ``cfg.compare``; returns its path."""
    if cfg.run is not None and cfg.out is not None:
        raise UserError(f"out={cfg.out} goes with compare=; the page of a run is its own report.html, so leave it out")
    if cfg.run is not None:
        page = write_page(Path(str(cfg.run)))
    elif isinstance(cfg.compare, str):
        page = _comparison(runs_below(cfg.compare), Path(cfg.out or Path(cfg.compare) / "compare.html"))
    elif not OmegaConf.is_list(cfg.compare) or not cfg.compare:
        raise UserError(f"compare={cfg.compare} must name run folders, such as 'compare=[runs/train/a,runs/train/b]'")
    else:
        page = _comparison([Path(str(folder)) for folder in cfg.compare], Path(cfg.out or "compare.html"))
    print(page, flush=True)
    return page


def _comparison(folders: Sequence[Path], out: Path) -> Path:
    check_output_file(out, suffix=".html", inputs=[])
    return write_comparison(folders, out)
