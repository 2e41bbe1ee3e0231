"""Step time on many devices from measured parts: ``python scripts/simulate_scaling.py``; prints a Markdown table.

The model. Forward and backward of one device take ``batch * compute_ms / speed``. In backward, two thirds of that,
gradients become ready evenly and travel in DDP's buckets, one after the other, each as a ring all-reduce over n
devices: ``2 (n-1) (bytes / n / bandwidth + latency)`` with the slowest link of the ring. A synchronised batch norm
exchanges too little for bandwidth to matter and cannot overlap: a tree of ``2 log2(n)`` hops forward, and the same
backward. The step ends when the last bucket does; the loader, working beside it, may take longer:
``batch * load_ms / cores``. The optimiser, stragglers, and storage are left out, so real steps take longer.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Milliseconds of one step, and of what it consists."""

    compute: float
    exposed: float  # exchange that computing does not hide
    loading: float

    @property
    def total(self) -> float:
        """Computing and what is left of the exchange, or loading where that takes longer."""
        return max(self.compute + self.exposed, self.loading)

    @property
    def bound(self) -> str:
        """What makes the step as long as it is."""
        if self.loading > self.compute + self.exposed:
            return "loading"
        return "links" if self.exposed > 0.1 * self.compute else "compute"


def ring_ms(size: float, devices: int, *, bandwidth: float, latency: float) -> float:
    """All-reduce of ``size`` bytes; bandwidth in bytes/ms, latency in ms a hop."""
    return 2 * (devices - 1) * (size / devices / bandwidth + latency)


def simulate(options: argparse.Namespace, *, devices: int, speed: float) -> Step:
    """One step of ``devices`` devices, each ``speed`` times as fast as the measured one."""
    across = devices > options.per_node
    gbit, latency = (options.net_gbit, options.net_us) if across else (options.node_gbit, options.node_us)
    ring = {"bandwidth": gbit * 1e9 / 8 / 1e3, "latency": latency / 1e3}
    compute = options.batch * options.compute_ms / speed
    size, bucket = options.parameters * options.gradient_bytes, options.bucket_mb * 2**20
    count = max(1, -int(-size // bucket))
    sent = 0.0
    for index in range(count):
        ready = compute * (1 / 3 + 2 / 3 * (index + 1) / count)
        sent = max(ready, sent) + ring_ms(size / count, devices, **ring)
    norms = 2 * options.norms * 2 * math.ceil(math.log2(devices)) * ring["latency"]
    return Step(compute, sent - compute + norms, options.batch * options.load_ms / options.cores)


def parser() -> argparse.ArgumentParser:
    """Options, each with where its default comes from."""
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = read.add_argument
    add("--compute-ms", type=float, default=3688, help="an image's step on the measured device: docs/performance.md,"
        " 461 ms for 2 images of 128x256 (hrnet_ocr on hrnet_w18_small, one core), by pixels for 512x1024")  # fmt: skip
    add("--speed", type=float, nargs="+", default=[1, 100, 1000], help="devices this many times as fast; assumed")
    add("--parameters", type=float, default=3.84e6, help="of that net, counted; docs/models.md has others")
    add("--gradient-bytes", type=float, default=4, help="float32, which DDP sends in mixed precision as well")
    add("--norms", type=int, default=80, help="synchronised batch norms of that net, counted; 0: none")
    add("--batch", type=int, default=2, help="images per device and step; 16 over eight devices in most papers")
    add("--load-ms", type=float, default=60.97, help="an image on one core: docs/performance.md, 1024x2048 PNG")
    add("--cores", type=int, default=8, help="processor cores for each device; assumed")
    add("--devices", type=int, nargs="+", default=[1, 8, 32], help="how many")
    add("--per-node", type=int, default=8, help="devices of one machine; assumed")
    add("--node-gbit", type=float, default=2400, help="link of a device within a machine, one way; assumed (NVLink)")
    add("--net-gbit", type=float, default=100, help="link between machines; assumed (100 GbE)")
    add("--node-us", type=float, default=5, help="latency of a hop within a machine; assumed")
    add("--net-us", type=float, default=15, help="latency of a hop between machines; assumed")
    add("--bucket-mb", type=float, default=25, help="DDP's default")
    return read


def main() -> None:
    """Prints the table, and from which speed on loading is the wall."""
    options = parser().parse_args()
    print("| speed | devices | compute, ms | exposed exchange, ms | loading, ms | step, ms | efficiency | bound by |")
    print("|---|---|---|---|---|---|---|---|")
    for speed in options.speed:
        for devices in options.devices:
            step = simulate(options, devices=devices, speed=speed)
            parts = [f"{ms:,.1f}" for ms in (step.compute, step.exposed, step.loading, step.total)]
            efficiency = f"{100 * step.compute / step.total:.0f} %"
            print("|", " | ".join([f"{speed:g}", str(devices), *parts, efficiency, step.bound]), "|")
    wall = 1000 * options.cores / options.load_ms
    times = options.compute_ms * wall / 1000
    print(
        f"\n{options.cores} cores deliver {wall:.0f} images/s to a device. One that trains faster, {times:.0f} times"
        " the measured speed, waits for decoding, however many there are."
    )


if __name__ == "__main__":
    main()
