"""Pages about finished or running runs: ``python -m src.dashboard run=FOLDER``, ``compare=[FOLDER,FOLDER]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from src.cli import command
from src.errors import UserError


def dashboard(cfg: DictConfig) -> Path:
    """Writes ``report.html`` of ``cfg.run``, or the comparison of ``cfg.compare``; returns its path."""
    from src import html

    if cfg.run is not None and cfg.out is not None:
        raise UserError(f"out={cfg.out} goes with compare=; the page of a run is its own report.html, so leave it out")
    if cfg.run is not None:
        page = html.write_page(Path(str(cfg.run)))
    elif isinstance(cfg.compare, str):
        page = _comparison(html.runs_below(cfg.compare), Path(cfg.out or Path(cfg.compare) / "compare.html"))
    elif not OmegaConf.is_list(cfg.compare) or not cfg.compare:
        raise UserError(f"compare={cfg.compare} must name run folders, such as 'compare=[runs/train/a,runs/train/b]'")
    else:
        page = _comparison([Path(str(folder)) for folder in cfg.compare], Path(cfg.out or "compare.html"))
    print(page, flush=True)
    return page


def _comparison(folders: Sequence[Path], out: Path) -> Path:
    from src import html
    from src.output_paths import check_output_file

    check_output_file(out, suffix=".html", inputs=[])
    return html.write_comparison(folders, out)


if __name__ == "__main__":
    command("dashboard", dashboard)
