"""The results of a sweep so far, read from its journal and its trials' files."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.run_files import CONFIG
from . import trial_folder as files
from .driver import JOURNAL
from .journal import last_records, read_journal
from .scheduler import row_of
from .spec import Row, Sweep, Trial

__all__ = ["Result", "results"]


@dataclass(frozen=True)
class Result:
    """A row and the results of its trials.

    ``values`` are those of finished trials, fractions; ``seconds`` their times; ``states`` counts trials by what became
    of them; ``failures`` holds id and message; ``data`` says what was scored, ``devices`` on what (``"cpu"`` or a GPU's
    name); ``config`` is a config that was run.
    """

    row: Row
    values: tuple[float, ...]
    seconds: tuple[float, ...]
    states: dict[str, int]
    failures: tuple[tuple[str, str], ...]
    data: frozenset[str]
    devices: frozenset[str]
    config: Path | None

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return statistics.mean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; it takes two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def results(sweep: Sweep, folder: Path) -> list[Result]:
    """One for each row, in their order; those of a search, best first."""
    records = read_journal(folder / JOURNAL)
    ended, started = last_records(records, "end"), last_records(records, "start")
    spent: dict[str, float] = defaultdict(float)
    for record in records:
        if record["event"] in ("end", "lost"):
            spent[record["trial"]] += record["seconds"]
    rows = sweep.rows or tuple(row_of(each["row"], each["params"]) for each in records if each["event"] == "suggest")
    found = [_result(sweep.trials(row), folder, ended=ended, started=set(started), spent=spent) for row in rows]
    if not sweep.search:
        return found
    sign = -1 if sweep.direction == "maximize" else 1
    return sorted(found, key=lambda result: (result.mean is None, sign * (result.mean or 0.0)))


def _result(
    trials: list[Trial], folder: Path, *, ended: dict[str, Any], started: set[str], spent: dict[str, float]
) -> Result:
    states = {}
    for trial in trials:
        if trial.id in ended:
            states[trial] = ended[trial.id]["status"]
        else:
            states[trial] = "started" if trial.id in started else "waiting"
    done = [trial for trial in trials if states[trial] == "done"]
    configs = [folder / "trials" / trial.id / CONFIG for trial in trials]
    saved = [files.scores(folder / "trials" / trial.id) or {} for trial in done]
    stamps: list[dict[str, Any]] = [dict(scores.get("protocol") or {}) for scores in saved]
    return Result(
        row=trials[0].row,
        values=tuple(ended[trial.id]["value"] for trial in done),
        seconds=tuple(spent[trial.id] for trial in done),
        states=Counter(states.values()),
        failures=tuple((trial.id, ended[trial.id]["message"]) for trial in trials if states[trial] == "failed"),
        data=frozenset(_data(stamp) for stamp in stamps),
        devices=frozenset(stamp["device"] for stamp in stamps if stamp.get("device")),
        config=next((path for path in configs if path.is_file()), None),
    )


def _data(stamp: dict[str, Any]) -> str:
    """Data set, splits and images that were scored, by the stamp of the scores."""
    splits = " + ".join(stamp.get("splits") or ["unknown split"])
    device = stamp.get("device")
    return f"{stamp.get('data', 'unknown data')} {splits}, {stamp.get('images', '?')} images" + (
        f", on {device}" if device else ""
    )
