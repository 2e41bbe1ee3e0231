"""SLURM as far as submitit asks for it: four commands made of processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.sweeps import Driver, results
from src.sweeps.executors.slurm import Cluster, _Attempt
from src.sweeps.journal import read_journal
from tests.sweeps.drive import stub_command, sweep
from tests.sweeps.test_driver import ROOT, steps, until

pytest.importorskip("submitit")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a SLURM of bash scripts")

COMMANDS = {
    "sbatch": """
        job=$(($(ls "$SLURM_FAKE" | wc -l) + 1))
        SLURM_JOB_ID=$job setsid bash "${@: -1}" > /dev/null 2>&1 &
        echo $! > "$SLURM_FAKE/$job"
        echo "Submitted batch job $job"
    """,
    "srun": """
        while [[ $1 == --* ]]; do case $1 in --output | --error) shift 2 ;; *) shift ;; esac; done
        exec "$@"
    """,
    "sacct": """
        echo "JobID|State|NodeList"
        for job in $(ls "$SLURM_FAKE"); do
            state=CANCELLED; kill -0 -$(cat "$SLURM_FAKE/$job") 2> /dev/null && state=RUNNING
            echo "$job|$state|here"
        done
    """,
    "scancel": """
        for each in /proc/[0-9]*; do  # whatever session a process of the job is in
            grep -qzxF "SLURM_FAKE=$SLURM_FAKE" $each/environ && grep -qzxF "SLURM_JOB_ID=$1" $each/environ &&
                kill -KILL ${each#/proc/}
        done 2> /dev/null
        true
    """,
}
SPEC = sweep([{"name": "a", "set": ["value=0.2", "pause=0.4"]}, {"name": "b", "set": ["value=0.3", "pause=0.4"]}])


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that has a file for each job."""
    for name, script in COMMANDS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}")
        path.chmod(0o755)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    monkeypatch.setenv("SLURM_FAKE", str(jobs))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return jobs


def drive(folder: Path, said: list[str] | None = None) -> None:
    executor = Cluster(folder / "cluster", jobs=None, options={"cluster": "slurm", "timeout_min": 60})
    say: Callable[[str], object] = print if said is None else said.append
    Driver(SPEC, folder, executor=executor, command=stub_command, poll=0.1, say=say).run()


def _begun(folder: Path) -> subprocess.Popen[bytes]:
    """A driver in a process of its own, once both of its jobs are under way."""
    folder.mkdir()
    driver = subprocess.Popen([sys.executable, "-m", "tests.sweeps.test_cluster", str(folder)])
    until(lambda: len(steps(folder)) == 2)
    return driver


@pytest.mark.slow
@pytest.mark.parametrize("unwritten", [False, True])
def test_jobs_outlive_a_killed_driver_and_are_taken_up_again(tmp_path: Path, slurm: Path, unwritten: bool) -> None:
    """Also where the driver was killed between handing a job over and writing its number down."""
    folder = tmp_path / "sweep"
    driver = _begun(folder)
    driver.kill()
    driver.wait()
    journal = folder / "journal.jsonl"
    if unwritten:
        journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"job"' not in line))
    drive(folder, said := [])
    assert [result.mean for result in results(SPEC, folder)] == [0.2, 0.3]
    assert len(list(slurm.iterdir())) == 2  # nothing was handed over twice
    assert [line.endswith("adopted") for line in said] == [True, True, False, False]
    assert "lost" not in {record["event"] for record in read_journal(journal)}
    assert set(map(tuple, steps(folder).values())) == {(0, 1, 2, 3)}


@pytest.mark.slow
def test_jobs_that_were_cancelled_with_their_driver_go_on_from_their_checkpoints(tmp_path: Path, slurm: Path) -> None:
    folder = tmp_path / "sweep"
    driver = _begun(folder)
    until(lambda: len(list(folder.glob("trials/*/checkpoints/last.ckpt"))) == 2)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) != 0
    drive(folder, said := [])
    assert sum("from its last checkpoint" in line for line in said) == 2
    found = results(SPEC, folder)
    assert [result.mean for result in found] == [0.2, 0.3] and not any(result.failures for result in found)
    assert all(sorted(set(ran)) == [0, 1, 2, 3] and len(ran) <= 5 for ran in steps(folder).values())


def test_a_job_that_loses_its_machine_ends_its_trial_without_waiting(tmp_path: Path) -> None:
    """``checkpoint`` interrupts the wait for the trial, as submitit has it do on a signal."""
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); time.sleep(120)"
    attempt, queued = _Attempt(lambda: [sys.executable, "-S", "-c", code], tmp_path, {}), []
    before = signal.signal(signal.SIGUSR2, lambda *_: queued.append(attempt.checkpoint()))
    timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGUSR2))
    try:
        timer.start()
        begun = time.monotonic()
        assert attempt() in (143, -signal.SIGTERM)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert time.monotonic() - begun < 25
    assert queued[0].function.folder == tmp_path


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
