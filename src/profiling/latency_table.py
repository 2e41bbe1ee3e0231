"""The table of ``src.benchmark``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["latency_table"]

_HEAD = ("kind of run", "batch", "pre ms", "net ms", "p95", "post ms", "all ms", "p95", "images/s", "MiB", "floor ms")


def latency_table(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    size: Sequence[int],
    repeats: int,
    device: str,
    costs: Mapping[str, int],
    environment: Mapping[str, Any],
) -> str:
    """Markdown, with lines on what was measured, how and on what.

    Args:
        name: of the net.
        rows: of ``Kind.row``.
        size: height and width of the images.
        repeats: runs of each row.
        device: ``cpu`` or ``cuda``.
        costs: ``parameters`` and ``multiply_adds``.
        environment: see ``src.runtime.environment``.
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (_HEAD, *map(_cells, rows))]
    lines.insert(1, "|" + "---|" * len(_HEAD))
    return "\n".join(
        [
            f"{name}, {size[0]}x{size[1]}: {costs['parameters'] / 1e6:.2f} M parameters,"
            f" {costs['multiply_adds'] / 1e9:.2f} G multiply-adds an image",
            *lines,
            f"median and 95th percentile of {repeats}; floor: multiply-adds at the rate of a large matrix product",
            f"{environment['device'] if device != 'cpu' else 'CPU'}, {environment['threads']} thread(s),"
            f" {environment['platform']}; Python {environment['python']}, torch {environment['packages']['torch']};"
            f" {environment['time'][:10]}, commit {environment['commit'][:7]}: {environment['command']}",
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
