"""A sweep's driver with a stub for ``src.train``: what runs, what fails, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from src.errors import UserError
from src.sweeps import Driver, results
from src.sweeps.journal import Journal, locked, read_journal
from src.sweeps.local import MARK, gpus, slots
from tests.conftest import ROOT
from tests.sweeps.drive import drive, eight, stub_command, sweep

WAIT = 120  # seconds, many times what is needed


def steps(folder: Path) -> dict[str, list[int]]:
    return {
        path.parent.name: [int(line) for line in path.read_text().split()] for path in folder.glob("trials/*/steps")
    }


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def in_process(folder: Path, spec: str) -> subprocess.Popen[str]:
    """A driver that can be killed."""
    command = [sys.executable, str(ROOT / "tests/sweeps/drive.py"), str(folder), spec]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def alive(folder: Path) -> list[int]:
    """Processes of any trial of the sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={folder}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_eight_trials_of_two_ranks_and_one_that_fails(tmp_path: Path) -> None:
    said = drive(eight(), tmp_path)
    found = results(eight(), tmp_path)
    assert [result.mean for result in found] == [0.1, None, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    (failure,) = [failure for result in found for failure in result.failures]
    assert failure == ("01_row-2_seed0", "error: made to fail")
    assert sum("failed (error: made to fail)" in line for line in said) == 1
    ranks = Counter(path.parent.name for path in tmp_path.glob("trials/*/rank*"))
    assert len(ranks) == 8
    assert set(ranks.values()) == {2}


def test_a_sweep_killed_with_9_goes_on_where_it_was(tmp_path: Path) -> None:
    """No trial is lost, none that ended runs again, those in flight go on from their checkpoints."""
    driver = in_process(tmp_path, "eight")
    journal = tmp_path / "journal.jsonl"
    until(lambda: sum(record["event"] == "end" for record in read_journal(journal)) >= 3)
    until(lambda: len(steps(tmp_path)) >= 5)  # others are under way
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = read_journal(journal)
    ended = {record["trial"] for record in before if record["event"] == "end"}
    flying = {record["trial"] for record in before if record["event"] == "start"} - ended
    assert ended and flying and len(ended | flying) < 8
    with journal.open("ab") as file:
        file.write(b'{"event": "end", "tri')  # cut by the kill
    done = steps(tmp_path)

    drive(eight(), tmp_path)
    after = read_journal(journal)
    assert after[: len(before)] == before
    assert Counter(record["trial"] for record in after if record["event"] == "end").most_common(1)[0][1] == 1
    assert not ended & {record["trial"] for record in after[len(before) :]}
    assert [result.mean for result in results(eight(), tmp_path)] == [0.1, None, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    for name, ran in steps(tmp_path).items():
        if name in ended:
            assert ran == done[name]
        elif name != "01_row-2_seed0":
            assert sorted(set(ran)) == [0, 1, 2, 3]
            assert len(ran) <= 5  # at most the step that was cut


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found through /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_trial_outlives_its_driver(tmp_path: Path, number: signal.Signals) -> None:
    driver = in_process(tmp_path, "long")
    until(lambda: bool(steps(tmp_path)))
    assert alive(tmp_path)
    driver.send_signal(number)
    output = driver.communicate(timeout=WAIT)[0]
    until(lambda: not alive(tmp_path))
    assert driver.returncode != 0
    assert number == signal.SIGKILL or f"python -m src.sweep resume={tmp_path}" in output


def test_failed_trials_run_again_when_asked(tmp_path: Path) -> None:
    spec = sweep([{"name": "a", "set": []}, {"name": "b", "set": ["fail=true"]}])
    drive(spec, tmp_path)
    assert drive(spec, tmp_path) == []
    said = drive(spec, tmp_path, retry_failed=True)
    assert {line.split(":")[0] for line in said} == {"01_b_seed0"}
    assert steps(tmp_path)["01_b_seed0"] == [0, 1, 1]  # from its checkpoint


def test_what_is_left_of_a_start_without_checkpoint_is_cleared(tmp_path: Path) -> None:
    spec = sweep([{"name": "a", "set": []}])
    folder = tmp_path / "trials/00_a_seed0"
    (folder / "charts").mkdir(parents=True)
    (folder / "log.txt").write_text("first attempt\n")
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append("start", trial="00_a_seed0", resumed=False)
    drive(spec, tmp_path)
    assert not (folder / "charts").exists()
    assert (folder / "log.txt").read_text().startswith("first attempt")
    assert results(spec, tmp_path)[0].mean == 0.5


def test_a_trial_that_ended_while_nobody_looked_is_not_repeated(tmp_path: Path) -> None:
    spec = sweep([{"name": "a", "set": ["value=0.25"]}])
    drive(spec, tmp_path)
    journal = tmp_path / "journal.jsonl"
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"end"' not in line))
    assert drive(spec, tmp_path) == ["00_a_seed0: done miou 0.2500"]
    assert steps(tmp_path)["00_a_seed0"] == [0, 1, 2, 3]


def test_a_run_without_the_objective_has_failed(tmp_path: Path) -> None:
    spec = sweep([{"name": "a", "set": []}], objective="boundary_miou")
    drive(spec, tmp_path)
    assert "left no 'boundary_miou'" in results(spec, tmp_path)[0].failures[0][1]


def test_two_drivers_in_one_folder_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match=rf"another process runs this sweep \(process {os.getpid()}"):
        drive(sweep([{"name": "a"}]), tmp_path)


def test_a_broken_line_of_the_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "start"}\nnonsense\n{"event": "end"}\n')
    with pytest.raises(UserError, match=r"journal\.jsonl: line 2 is no record"):
        Journal(path)


def test_slots_share_the_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,9")
    groups = slots(gpus(), per_trial=2, jobs=None)
    assert [group["CUDA_VISIBLE_DEVICES"] for group in groups] == ["4,5", "6,7"]
    with pytest.raises(UserError, match=r"3 trials of 2 devices need 6 GPUs, and there are 5"):
        slots(gpus(), per_trial=2, jobs=3)
    assert [group["CUDA_VISIBLE_DEVICES"] for group in slots([], per_trial=1, jobs=3)] == [""] * 3


@pytest.mark.slow
def test_jobs_of_submitit(tmp_path: Path) -> None:
    """On this machine, as its local executor has it."""
    pytest.importorskip("submitit")
    from src.sweeps.cluster import Cluster

    spec = sweep([{"name": "a", "set": ["value=0.2"]}, {"name": "b", "set": ["fail=true"]}])
    options = {"cluster": "local", "timeout_min": 5, "gpus_per_node": 0}
    executor = Cluster(tmp_path / "cluster", jobs=2, options=options)
    Driver(spec, tmp_path, executor=executor, command=stub_command, poll=0.1, say=lambda line: None).run()
    first, second = results(spec, tmp_path)
    assert first.mean == 0.2
    assert second.failures == (("01_b_seed0", "error: made to fail"),)
    assert json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[1])["job"]
