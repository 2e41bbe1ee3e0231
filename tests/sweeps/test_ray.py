"""Trials under a guard, which ends them with whoever asked for them, and as tasks of a real Ray."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.errors import UserError
from src.sweeps import Driver, Sweep, results
from src.sweeps.executors.base import MARK
from src.sweeps.executors.ray import RayCluster
from src.sweeps.executors.supervisor import guarded
from src.sweeps.journal import read_journal
from tests.conftest import ROOT
from tests.sweeps.drive import STUB, SWEEPS, stub_command, sweep
from tests.sweeps.test_driver import alive, steps, until

OPTIONS = {"address": None, "cpus_per_trial": 1, "restarts": 1}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found through /proc")


def stub(folder: Path, pause: float = 0.0) -> list[str]:
    own = [f"hydra.run.dir={folder}", "seed=0", f"pause={pause}"]
    return [sys.executable, "-S", STUB, "1", *own]


def attempt(folder: Path, command: list[str], **options: Any) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    given = {"directory": str(ROOT), "environment": {MARK: str(folder)}, **options}
    return guarded(lambda: command, folder, folder.parent / "lock", **given)


@on_linux
def test_a_guarded_trial_returns_its_exit_status_and_may_not_fall_silent(tmp_path: Path) -> None:
    assert attempt(tmp_path / "a/b", stub(tmp_path / "a/b")) == 0
    assert json.loads((tmp_path / "a/b/scores_test.json").read_text())["miou"] == 0.5
    assert attempt(tmp_path / "c/d", ["sleep", "600"], patience=0.005) != 0
    assert "no sign of life" in (tmp_path / "c/d/log.txt").read_text()
    assert not alive(tmp_path)


@on_linux
def test_a_trial_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """Also what it started in a session of its own, as torchrun does."""
    folder = tmp_path / "t/x"
    command = ["sh", "-c", f"setsid sleep 600 & touch {folder}/begun; exec sleep 600"]
    folder.mkdir(parents=True)
    code = f"import pathlib; from src.sweeps.executors.supervisor import guarded; here = pathlib.Path({str(folder)!r});"
    code += f"guarded(lambda: {command}, here, here / 'lock', directory='.', environment={{'{MARK}': str(here)}})"
    asker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until(lambda: (folder / "begun").exists() and len(alive(tmp_path / "t")) == 2)
    asker.kill()
    until(lambda: not alive(tmp_path / "t"))
    asker.wait()


def test_an_attempt_waits_until_an_earlier_one_has_ended(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)
        later = threading.Thread(target=attempt, args=(tmp_path / "x", stub(tmp_path / "x")))
        later.start()
        time.sleep(0.5)
        assert not (tmp_path / "x/steps").exists()
    later.join()
    assert (tmp_path / "x/steps").read_text().split() == ["0", "1", "2", "3"]


def executor(folder: Path, **changes: Any) -> RayCluster:
    given = {"devices": 1, "jobs": None, "gpus": None}
    given |= {name: changes.pop(name) for name in ("gpus", "jobs", "patience") if name in changes}
    return RayCluster(folder / "ray", options=OPTIONS | changes, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpus_per_trial": 0}, r"ray\.cpus_per_trial=0 must be a whole number of 1 or more"),
        ({"restarts": -1}, r"ray\.restarts=-1 must be"),
        ({"patience": 0}, r"patience=0 must be a number of minutes"),
        ({"jobs": 0}, r"jobs=0 must be"),
        ({"address": "ray://there:10001"}, r"use ray\.address=auto on a machine of the cluster"),
        ({"address": "auto", "gpus": ["0"]}, r"gpus=\['0'\] are this machine's, but ray\.address=auto is given"),
        ({"cpus_per_trial": None}, r"ray\.cpus_per_trial=None must be"),
        ({}, r"executor=ray needs ray; install it: pip install ray=="),
    ],
)
def test_what_cannot_be_is_said(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=message):
        executor(tmp_path, **changes)


@pytest.fixture
def ray() -> Iterator[Any]:
    """Where it is installed: it is large, so that the tests do without."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray==2.60.0")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A cluster of two machines with a GPU each, all of them pretended, and a head without."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray==2.60.0")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    cluster.added = [cluster.add_node(num_cpus=1, num_gpus=1, **small) for _ in range(2)]
    yield cluster
    cluster.shutdown()


def drive(spec: Sweep, folder: Path, where: RayCluster) -> list[str]:
    said: list[str] = []
    Driver(spec, folder, executor=where, command=stub_command, poll=0.1, say=said.append).run()
    return said


def devices_of(folder: Path) -> list[str]:
    found = []
    for pid in alive(folder):
        variables = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line)
        found.append(variables["CUDA_VISIBLE_DEVICES"])
    return found


@pytest.mark.slow
@on_linux
def test_a_ray_of_this_machine(tmp_path: Path, ray: Any) -> None:
    spec = sweep([{"name": "a", "set": ["value=0.2"]}, {"name": "b", "set": ["fail=true"]}])
    where = executor(tmp_path, gpus=[], jobs=2)
    drive(spec, tmp_path, where)
    first, second = results(spec, tmp_path)
    assert first.mean == 0.2
    assert second.failures == (("01_b_seed0", "error: made to fail"),)

    folder = tmp_path / "trials/long"
    folder.mkdir()
    command = functools.partial(list, stub(folder, 60))  # Ray's processes cannot import this module
    running, waiting = [where.start(command, folder, {MARK: str(folder)}) for _ in range(2)]
    until(lambda: (folder / "steps").exists())
    assert devices_of(tmp_path) == [""]  # of one attempt: the other one waits
    assert not where.free()
    waiting.stop()
    until(lambda: waiting.poll() is not None)
    running.stop()
    assert not alive(tmp_path)
    until(where.free)
    assert running.poll() and waiting.poll()

    with pytest.raises(UserError, match=r"no machine of Ray's has 99 CPUs and 0 GPUs"):
        ray.shutdown()
        executor(tmp_path, cpus_per_trial=99, gpus=[])


@pytest.mark.slow
@on_linux
def test_a_trial_on_a_cluster_ends_with_its_driver_and_goes_on_with_the_next(
    tmp_path: Path, machines: Any, ray: Any
) -> None:
    command = [sys.executable, str(ROOT / "tests/sweeps/drive.py"), str(tmp_path), "steady", machines.address]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as driver:
        until(lambda: bool(list(tmp_path.glob("trials/*/checkpoints/last.ckpt"))))
        assert alive(tmp_path)
        driver.kill()
    until(lambda: not alive(tmp_path))
    (before,) = steps(tmp_path).values()
    assert before[-1] < 3
    said = drive(SWEEPS["steady"], tmp_path, executor(tmp_path, address=machines.address))
    assert said == ["00_steady_seed0: started, from its last checkpoint", "00_steady_seed0: done miou 0.5000"]
    (ran,) = steps(tmp_path).values()
    assert sorted(set(ran)) == [0, 1, 2, 3] and len(ran) <= 5


@pytest.mark.slow
@on_linux
def test_a_trial_whose_machine_is_lost_goes_on_elsewhere(tmp_path: Path, machines: Any, ray: Any) -> None:
    """Last of those that use the cluster: one of its machines is gone afterwards."""
    spec = sweep([{"name": f"{n}", "set": ["pause=1", f"value=0.{n}"]} for n in (1, 2)])
    where, seen = executor(tmp_path, address=machines.address), []

    def lose() -> None:
        until(lambda: len(list(tmp_path.glob("trials/*/checkpoints/last.ckpt"))) == 2)
        seen.extend(devices_of(tmp_path))
        machines.remove_node(machines.added[0], allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    drive(spec, tmp_path, where)
    loser.join()
    assert seen == ["0", "0"]  # each of its own machine
    assert [result.mean for result in results(spec, tmp_path)] == [0.1, 0.2]
    logs = [path.read_text() for path in sorted(tmp_path.glob("trials/*/log.txt"))]
    assert sorted("it starts again" in log for log in logs) == [False, True]
    assert all(sorted(set(ran)) == [0, 1, 2, 3] and len(ran) <= 5 for ran in steps(tmp_path).values())
    assert sum(record["event"] == "end" for record in read_journal(tmp_path / "journal.jsonl")) == 2
