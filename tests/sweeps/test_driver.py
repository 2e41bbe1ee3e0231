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
from src.files.atomic import locked
from src.sweeps import Driver, results
from src.sweeps.executors.base import MARK
from src.sweeps.executors.local import Local, gpus, slots
from src.sweeps.journal import Journal, read_journal
from src.sweeps.trial_folder import reason
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found through /proc")
def test_the_command_with_eight_trials_of_two_ranks_is_killed_and_goes_on(tmp_path: Path) -> None:
    """As a user types it, with the real torchrun; a process of one trial fails, of another it is killed.

    The trials themselves are the stub: two processes of the real thing, eight times, take minutes.
    """
    names = [f"{{name: row {n}, set: ['optimizer.lr=0.{n}']}}" for n in range(1, 9)]
    names[1] = names[1].replace("0.2'", "0.2','data.name=fails'")
    names[5] = names[5].replace("0.6'", "0.6','data.name=killed'")
    given = ["sweep.fixed=[]", "sweep.devices=2", "sweep.seeds=[0]", f"sweep.trials=[{','.join(names)}]"]
    given += ["jobs=2", "gpus=[]", "schedule.power=0.3", f"hydra.run.dir={tmp_path}"]
    driver = _command(tmp_path, *given)
    journal = tmp_path / "journal.jsonl"
    until(lambda: sum(record["event"] == "end" for record in read_journal(journal)) >= 3 or driver.poll() is not None)
    driver.kill()
    assert driver.communicate()[0].count(": started") < 8
    until(lambda: not alive(tmp_path))
    before = read_journal(journal)
    ended = {record["trial"] for record in before if record["event"] == "end"}
    assert 3 <= len(ended) < 8

    again = _command(tmp_path, f"resume={tmp_path}")
    said = again.communicate(timeout=4 * WAIT)[0]
    assert again.returncode == 1
    failures = ("01_row-2_seed0", "error: made to fail"), ("05_row-6_seed0", "process 1 was killed by SIGKILL")
    assert "error: 2 of 8 trials failed, 01_row-2_seed0 first: error: made to fail (log: " in said
    for name, why in failures:
        assert f"failed: `{name}`: {why}" in (tmp_path / "report.md").read_text()
    after = read_journal(journal)[len(before) :]
    assert not ended & {record["trial"] for record in after}
    ends = [record for record in (*before, *after) if record["event"] == "end"]
    assert Counter(record["status"] for record in ends) == {"done": 6, "failed": 2}
    values = {record["trial"]: record["value"] for record in ends if record["status"] == "done"}
    assert values == {f"0{n - 1}_row-{n}_seed0": n / 10 for n in (1, 3, 4, 5, 7, 8)}
    folders = sorted(path.name for path in (tmp_path / "trials").iterdir())
    assert folders == [f"0{n - 1}_row-{n}_seed0" for n in range(1, 9)]
    assert all((tmp_path / "trials" / name / f"rank{rank}").exists() for name in folders for rank in (0, 1))
    for name in values:
        assert sorted(set(steps(tmp_path)[name])) == [0, 1, 2, 3] and len(steps(tmp_path)[name]) <= 5
    assert not alive(tmp_path)


def _command(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.sweeps.command", *overrides]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


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


@pytest.mark.slow
def test_a_trial_without_a_sign_of_life_is_ended_and_the_rest_goes_on(tmp_path: Path) -> None:
    spec = sweep([{"name": "hangs", "set": ["pause=600"]}, {"name": "goes", "set": ["value=0.3"]}])
    executor = Local(slots([], per_trial=1, jobs=1), patience=0.05)  # three seconds
    Driver(spec, tmp_path, executor=executor, command=stub_command, poll=0.02, say=lambda line: None).run()
    first, second = results(spec, tmp_path)
    assert first.failures[0][1].startswith("error: no sign of life for 0.05 minutes")
    assert second.mean == 0.3
    assert not alive(tmp_path)


TORCHRUN = """epoch 0  step 10/20
W1121 22:54:35.6 9 torch/distributed/elastic/multiprocessing/api.py:9] Sending process 7 closing signal SIGTERM
E1121 22:54:35.7 9 torch/distributed/elastic/multiprocessing/api.py:10] failed (exitcode: {code}) local_rank: 1
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_22:54:35
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 20655){name}
  error_file: <N/A>
============================================================
"""


@pytest.mark.parametrize(
    ("written", "code", "expected"),
    [
        ("epoch 0\nerror: data.root=x\nepoch 1\n", 1, "error: data.root=x"),
        ("error: optimizer.lr=-1\nerror: another process of this run has ended; ...\n", 1, "error: optimizer.lr=-1"),
        ("epoch 0  step 10/20\n", -9, "killed by signal 9 (Killed)"),
        (TORCHRUN.format(code=-9, name="  (SIGKILL)"), 1, "process 1 was killed by SIGKILL"),
        (
            "[rank1]: ValueError: no\n" + TORCHRUN.partition("\n")[2].format(code=1, name=""),
            1,
            "[rank1]: ValueError: no",
        ),
        ("ValueError: no\n\n", 1, "ValueError: no"),
        ("", 1, "its log is empty"),
    ],
)
def test_why_a_trial_failed_is_what_its_last_attempt_says(
    tmp_path: Path, written: str, code: int, expected: str
) -> None:
    assert reason(tmp_path, code) == "it left no log"
    (tmp_path / "log.txt").write_text(f"error: of the first attempt\n--- attempt of now\n{written}")
    assert reason(tmp_path, code) == expected


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
    with (
        locked(tmp_path, "running this sweep"),
        pytest.raises(UserError, match=rf"another process is running this sweep \(process {os.getpid()}"),
    ):
        drive(sweep([{"name": "a"}]), tmp_path)


def test_a_broken_line_of_the_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    start = '{"event": "start", "trial": "a", "resumed": false, "time": 1.0}\n'
    path.write_text(f"{start}nonsense\n{start}")
    with pytest.raises(UserError, match=r"journal\.jsonl: line 2 is no record"):
        Journal(path)


def test_slots_share_the_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,9")
    groups = slots(gpus(), per_trial=2, jobs=None)
    assert [group["CUDA_VISIBLE_DEVICES"] for group in groups] == ["4,5", "6,7"]
    with pytest.raises(UserError, match=r"3 trials of 2 devices need 6 GPUs, and there are 5"):
        slots(gpus(), per_trial=2, jobs=3)
    assert [group["CUDA_VISIBLE_DEVICES"] for group in slots([], per_trial=1, jobs=3)] == [""] * 3
    assert (gpus([0, 3]), gpus([]), gpus(None)) == (["0", "3"], [], [])
    for jobs in (0, "two", 1.5):
        with pytest.raises(UserError, match=rf"jobs={jobs} must be a whole number"):
            slots([], per_trial=1, jobs=jobs)
    for chosen in (1, "0"):
        with pytest.raises(UserError, match=rf"gpus={chosen} must be auto, or a list as gpus=\[0,1\]"):
            gpus(chosen)
    with pytest.raises(UserError, match="patience=0 must be a number of minutes"):
        Local([{}], patience=0)


@pytest.mark.slow
def test_jobs_of_submitit(tmp_path: Path) -> None:
    """On this machine, as its local executor has it."""
    pytest.importorskip("submitit")
    from src.sweeps.executors.slurm import Cluster

    spec = sweep([{"name": "a", "set": ["value=0.2"]}, {"name": "b", "set": ["fail=true"]}])
    options = {"cluster": "local", "timeout_min": 5, "gpus_per_node": 0}
    executor = Cluster(tmp_path / "cluster", jobs=2, options=options)
    Driver(spec, tmp_path, executor=executor, command=stub_command, poll=0.1, say=lambda line: None).run()
    first, second = results(spec, tmp_path)
    assert first.mean == 0.2
    assert second.failures == (("01_b_seed0", "error: made to fail"),)
    assert json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[1])["job"]
