"""A trial's folder: how a trial starts or is resumed in it, and what its files say."""

from __future__ import annotations

import datetime
import math
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from ..cli.overrides import quoted
from ..errors import UserError
from ..files.json_schema import SavedScores
from ..files.run_files import HISTORY, LAST_CHECKPOINT, scores_file
from ..files.untrusted import read_curves, read_json

__all__ = ["LOG", "arguments", "begin_log", "check_place", "curve", "lasted", "make_ready", "reason", "scores", "value"]

LOG = "log.txt"
_BEGINS = "--- attempt of "  # line of the log
_AGENT = re.compile(r"^.*torch/distributed/elastic/multiprocessing/api\.py", re.M)  # torchrun's account of a failure
_ROOT = re.compile(r"Root Cause.*?rank\s+: (\d+).*?exitcode\s+: -\d+ .*?\((SIG\w+)\)", re.S)
_FOLLOWS = "error: another process of this run has ended"  # from processes that did not fail by themselves


def make_ready(folder: Path) -> None:
    """Leaves a folder that a run can resume in, or an empty one but for the log.

    Raises:
        UserError: if the folder is a link, or lies behind one: what is removed must be of the sweep.
    """
    check_place(folder)
    if (folder / LOG).is_symlink():  # or what trials print would be added to any file
        (folder / LOG).unlink()
    if not (folder / LAST_CHECKPOINT).is_file():
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOG:
                path.unlink()
    for path in folder.glob(scores_file("*")):
        path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def check_place(folder: Path) -> None:
    """Refuses a trial whose folder is not where the sweep's folder has it.

    Raises:
        UserError: naming the link.
    """
    for path in (folder.parent, folder):
        if path.is_symlink():
            raise UserError(
                f"{path}: is a link; a sweep writes and removes files in its own folder only: move it there"
            )


def arguments(folder: Path, options: Sequence[str]) -> list[str]:
    """For ``src.train``: to resume from the folder's last checkpoint, or to start in the folder."""
    if (folder / LAST_CHECKPOINT).is_file():
        return [f"resume={folder}"]
    return [quoted("hydra.run.dir", folder), *options]


def scores(folder: Path) -> SavedScores | None:
    """What the run ended with: of the test split, or of val where there is no test; ``None`` if it has not ended.

    Raises:
        UserError: for a broken file.
    """
    for stage in ("test", "val"):
        path = folder / scores_file(stage)
        if path.is_file():
            return read_json(path, SavedScores, remedy="remove it, and resume with resume= retry_failed=true")
    return None


def curve(folder: Path, metric: str) -> list[tuple[int, float]]:
    """Step and value of ``metric`` so far, of its last row where a step has several."""
    found = dict(read_curves(folder / HISTORY).get(metric, ()))
    return [(step, number) for step, number in sorted(found.items()) if math.isfinite(number)]


def value(folder: Path, objective: str, direction: str) -> float | None:
    """The objective of a finished trial: a key of its scores, or the best of a column of its ``metrics.csv``."""
    found = scores(folder)
    if found is None:
        return None
    if "/" in objective:
        numbers = [number for _, number in curve(folder, objective)]
        best = max if direction == "maximize" else min
        return best(numbers) if numbers else None
    number = found.get(objective)
    return number if isinstance(number, int | float) and not isinstance(number, bool) else None


def lasted(folder: Path, start: float) -> float:
    """Seconds from ``start`` until the trial last wrote something: for one whose end nobody saw."""
    written = [path.stat().st_mtime for path in folder.glob("*") if path.is_file()]
    return round(max(0.0, max(written, default=0.0) - start), 1)


def begin_log(folder: Path) -> None:
    """Tells this attempt's part of the log from that of earlier ones."""
    with (folder / LOG).open("a") as file:
        file.write(f"{_BEGINS}{datetime.datetime.now().isoformat(' ', 'seconds')}\n")


def reason(folder: Path, code: int) -> str:
    """Why a trial's last attempt ended with the status ``code``.

    The last line of its log that begins with ``error:``; else the signal that killed it, or one of torchrun's
    processes; else the last line that a process of its own wrote.
    """
    path = folder / LOG
    if not path.is_file():
        return "it left no log"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        _, begins, text = file.read().decode(errors="replace").rpartition(_BEGINS)
    text = text.partition("\n")[2] if begins else text
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    if found := [line for line in errors if not line.startswith(_FOLLOWS)] or errors:
        return found[-1][:300]
    own, *agent = _AGENT.split(text, maxsplit=1)
    if killed := _ROOT.search("".join(agent)):
        return f"process {killed[1]} was killed by {killed[2]}"
    if code < 0:
        return f"killed by signal {-code} ({signal.strsignal(-code)})"
    return next((line.strip() for line in reversed(own.splitlines()) if line.strip()), "its log is empty")[:300]
