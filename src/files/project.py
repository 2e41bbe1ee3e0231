"""Where the project's own files lie."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CONFIG_DIR", "PROJECT"]

PROJECT = Path(__file__).resolve().parents[2]
CONFIG_DIR = PROJECT / "conf"
