"""The table of ``src.benchmark``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["latency_table"]

_HEAD = ("kind of run", "batch", "pre ms", "net ms", "p95", "post ms", "all ms", "p95", "images/s", "MiB", "floor ms")


def latency_table(result: Mapping[str, Any], *, repeats: int, device: str) -> str:
    """Markdown, with lines on what was measured, how and on what.

    Args:
        result: content of ``benchmark.json``.
        repeats: runs of each row.
        device: ``cpu`` or ``cuda``.
    """
    (height, width), about = result["size"], result["environment"]
    lines = [f"| {' | '.join(cells)} |" for cells in (_HEAD, *map(_cells, result["rows"]))]
    lines.insert(1, "|" + "---|" * len(_HEAD))
    return "\n".join(
        [
            f"{result['subject']}, {height}x{width}: {result['parameters'] / 1e6:.2f} M parameters,"
            f" {result['multiply_adds'] / 1e9:.2f} G multiply-adds an image",
            *lines,
            f"median and 95th percentile of {repeats}; floor: multiply-adds at the rate of a large matrix product",
            f"{about['device'] if device != 'cpu' else 'CPU'}, {about['threads']} thread(s),"
            f" {about['platform']}; Python {about['python']}, torch {about['packages']['torch']};"
            f" {about['time'][:10]}, commit {about['commit'][:7]}: {about['command']}",
        ]
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    times = {name: (f"{each['median_ms']:.2f}", f"{each['p95_ms']:.2f}") for name, each in row["times"].items()}
    phases = ["", "", "", ""]
    if "net" in times:
        phases = [times["pre"][0], *times["net"], times["post"][0]]
    memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"
    floor = "" if row["floor_ms"] is None else f"{row['floor_ms']:.2f}"
    speed = f"{row['images_per_second']:.1f}"
    return [row["kind"], str(row["batch_size"]), *phases, *times["all"], speed, memory, floor]
