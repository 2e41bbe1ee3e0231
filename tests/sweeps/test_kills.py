"""A driver killed at every write of its journal, twice in a row, with rows and with a search."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from src.sweeps import Driver, Sweep, parse, results
from src.sweeps.journal import Journal, read_journal
from tests.sweeps.drive import sweep

STEPS = 3
ROWS = [{"name": "a", "set": ["value=0.1"]}, {"name": "b", "set": ["fail=true"]}, {"name": "c", "set": ["value=0.3"]}]


class Killed(BaseException):
    """What no driver catches."""


class Process:
    """A trial of ``STEPS`` steps, one at each look, with a checkpoint after each."""

    job = None

    def __init__(self, arguments: list[str]) -> None:
        options = dict(item.split("=", 1) for item in arguments)
        self.folder = Path(options.get("resume") or options["hydra.run.dir"].strip("'"))
        self.checkpoint = self.folder / "checkpoints/last.ckpt"
        self.options, self.step = json.loads(self.checkpoint.read_text()) if self.checkpoint.is_file() else (options, 0)
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is not None:
            return self.status
        if self.step == STEPS:
            (self.folder / "scores_test.json").write_text(json.dumps({"miou": float(self.options["value"])}))
            self.status = 0
        elif self.options.get("fail") and self.step == 1:
            (self.folder / "log.txt").write_text("error: made to fail\n")
            self.status = 1
        else:
            with (self.folder / "steps").open("a") as file:
                file.write(f"{self.step}\n")
            self.step += 1
            self.checkpoint.parent.mkdir(exist_ok=True)
            self.checkpoint.write_text(json.dumps([self.options, self.step]))
        return None

    def ask_to_stop(self) -> None:
        raise AssertionError("nothing stops here")

    stop = ask_to_stop


class Machine:
    """Two slots; what runs lives on for ``late`` looks when its driver has been killed."""

    def __init__(self) -> None:
        self.running: list[Process] = []

    def free(self) -> bool:
        self.running = [process for process in self.running if process.status is None]
        return len(self.running) < 2

    def start(self, command: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> Process:
        self.running.append(Process(command()))
        return self.running[-1]

    def adopt(self, job: str | None, folder: Path) -> None:
        return None

    def orphan(self, late: int) -> None:
        for process in self.running:
            for _ in range(late):
                process.poll()
        self.running = []


def _carry_on(spec: Sweep, folder: Path, patch: pytest.MonkeyPatch, *, kills: set[int], how: str, late: int) -> int:
    """Drives ``spec``, killed before, in or after the writes that ``kills`` counts; how many there were."""
    machine, append, count = Machine(), Journal.append, 0

    def fatal(journal: Journal, event: str, **record: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        if count not in kills:
            return append(journal, event, **record)
        if how == "cut":
            journal._file.write(b'{"event": "end", "tri')
        if how == "after":
            append(journal, event, **record)
        raise Killed

    patch.setattr(Journal, "append", fatal)
    for _ in range(len(kills) + 1):
        try:
            Driver(spec, folder, executor=machine, command=lambda devices: [], poll=0, say=lambda line: None).run()
        except Killed:
            machine.orphan(late)
    return count


@pytest.mark.parametrize("how", ["before", "cut", "after"])
@pytest.mark.parametrize("late", [0, STEPS + 1])
def test_no_write_of_the_journal_is_a_bad_moment_to_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, late: int
) -> None:
    spec, last = sweep(ROWS), 100
    for first in range(1, last):
        if first > last:
            break
        folder = tmp_path / f"{first}"
        folder.mkdir()
        last = _carry_on(spec, folder, monkeypatch, kills={first, first + 1}, how=how, late=late)
        _nothing_lost_and_nothing_twice(read_journal(folder / "journal.jsonl"))
        assert [result.mean for result in results(spec, folder)] == [0.1, None, 0.3]
        for path in folder.glob("trials/*/steps"):
            ran = [int(step) for step in path.read_text().split()]
            assert ran == sorted(ran) and len(ran) <= STEPS  # each goes on from its checkpoint
    assert last >= 6 and first > last


def _nothing_lost_and_nothing_twice(records: list[dict[str, Any]]) -> None:
    ends = Counter(record["trial"] for record in records if record["event"] == "end")
    starts = Counter(record["trial"] for record in records if record["event"] == "start")
    lost = Counter(record["trial"] for record in records if record["event"] == "lost")
    assert set(ends.values()) == {1} and len(ends) == 3
    for place, record in enumerate(records):
        if record["event"] == "end":
            assert not any(later.get("trial") == record["trial"] for later in records[place + 1 :])
    assert all(lost[trial] <= starts[trial] for trial in ends)  # the time of an attempt counts once


@pytest.mark.parametrize("how", ["before", "cut", "after"])
def test_a_search_may_be_killed_at_any_write_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    pytest.importorskip("optuna")
    options = {"trials": 3, "sampler": "random", "pruner": None, "space": {"value": {"low": 0.0, "high": 1.0}}}
    tree = {"objective": "miou", "direction": "maximize", "devices": 1, "seeds": [0], "search": options}
    for first in range(1, 10):
        folder = tmp_path / f"{first}"
        folder.mkdir()
        _carry_on(parse(tree), folder, monkeypatch, kills={first, first + 1}, how=how, late=1)
        records = read_journal(folder / "journal.jsonl")
        _nothing_lost_and_nothing_twice(records)
        drawn = [record["params"]["value"] for record in records if record["event"] == "suggest"]
        assert len(drawn) == len(set(drawn)) == 3
