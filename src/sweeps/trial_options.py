"""Which options a trial may be given."""

from __future__ import annotations

import re

from src.errors import UserError
from src.files.project import CONFIG_DIR

__all__ = ["check_option"]

_OF_TRAIN = re.compile(r"(?:\+{0,2}[A-Za-z_][\w.@/:-]*=|~[A-Za-z_][\w.@/:-]*(?:=|$))")  # and no flag
_OWN = ("hydra", "resume", "run_dir")  # Hydra itself could be told to run anything; the others are the sweep's to give


def check_option(option: str) -> None:
    """Refuses what would make a trial more than ``python -m src.train`` with values for its own options.

    The record of a sweep may be of a stranger. Hydra runs what its own keys name, and reads any file as the choice of a
    group; a flag may name a folder of other configs; a resolver may put an environment variable into an address.

    Raises:
        UserError: naming the option.
    """
    key, _, value = option.lstrip("+~").partition("=")
    parts = re.split(r"[.@/:]", key)
    if not _OF_TRAIN.match(option) or not option.isprintable() or "" in parts:
        what = "is no option of src.train; write name=value"
    elif own := set(parts) & set(_OWN):
        what = f"cannot be given to a trial: {own.pop()} is not its own; leave it out"
    elif re.search(r"\$\{[^}]*:", value):
        what = "has a resolver, which reads what is not in the config; write the value itself"
    elif (CONFIG_DIR / key.split("@")[0]).is_dir() and not re.fullmatch(r"[\w'\"\[\], -]*", value):
        what = f"must name an option of {key}, not a file; python -m src.train --help lists them"
    else:
        return
    raise UserError(f"sweep: {option[:200]!r} {what}")
