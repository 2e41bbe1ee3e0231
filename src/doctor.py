"""Check a data set before training: ``python -m src.doctor data=folder data.root=PATH``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.cli import command

if TYPE_CHECKING:
    from src.data import Source


def doctor(cfg: DictConfig) -> None:
    """Prints what every split holds and what to mend; exits with status 1 if something must be."""
    from src.build import instantiate, settle_classes
    from src.data.audit import audit

    make = instantiate(cfg.data.dataset)
    names = dict.fromkeys(name for split in cfg.data.splits.values() for name in split)
    sick = False
    for name in names:
        source = make(split=name)
        settle_classes(cfg, source.label_space)
        found = audit(source, limit=cfg.limit, progress=True)
        print(f"\n{cfg.data.name} / {name}\n{_first_pairs(source)}{found.report()}", flush=True)
        sick |= bool(found.problems)
    if sick:
        sys.exit(1)


def _first_pairs(source: Source) -> str:
    """The first pairs of files, to see whether the right label goes with the right image."""
    pairs = getattr(source, "pairs", [])[:3]  # generated scenes have none
    return "".join(f"pair        {pair.image}  <-  {pair.label or 'no label'}\n" for pair in pairs)


if __name__ == "__main__":
    command("doctor", doctor)
