"""Pages about finished or running runs: ``python -m src.dashboard run=FOLDER``, ``compare=[FOLDER,FOLDER]``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from src.cli import command


def dashboard(cfg: DictConfig) -> Path:
    """Writes ``report.html`` of ``cfg.run``, or the comparison of ``cfg.compare``; returns its path."""
    from src import html

    if cfg.run is not None:
        page = html.write_page(Path(str(cfg.run)))
    elif isinstance(cfg.compare, str):
        page = html.write_comparison(html.runs_below(cfg.compare), cfg.out or Path(cfg.compare) / "compare.html")
    else:
        page = html.write_comparison([Path(str(folder)) for folder in cfg.compare], cfg.out or "compare.html")
    print(page, flush=True)
    return page


if __name__ == "__main__":
    command("dashboard", dashboard)
