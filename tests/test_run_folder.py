"""A run folder belongs to one run: made for it alone, refused where it is used, held while it is written to."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from src.checkpoints.load import load_checkpoint
from src.cli.own_folder import OwnFolder
from src.errors import UserError
from src.files.atomic import is_locked, locked, whole_file
from src.runtime.run_lock import held, new_folder
from tests.conftest import call
from tests.ranks import Ending, run_ranks

_FORK = multiprocessing.get_context("fork")


def _config(folder: str, *given: str) -> DictConfig:
    hydra = OmegaConf.structured(HydraConf)
    hydra.run.dir, hydra.overrides.hydra = folder, [*given]
    return OmegaConf.create({"hydra": hydra})


def _started(folder: str) -> str:
    config = _config(folder)
    OwnFolder().on_run_start(config)
    return config.hydra.run.dir


def test_eight_starts_in_one_second_get_eight_folders(tmp_path: Path) -> None:
    with _FORK.Pool(8) as pool:
        folders = pool.map(_started, [f"{tmp_path}/runs/now"] * 8, chunksize=1)
    assert len({*folders}) == 8
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["now", *(f"now_{i}" for i in range(2, 9))]


def test_a_folder_that_is_given_or_of_another_rank_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = f"{tmp_path}/given"
    config = _config(given, f"hydra.run.dir={given}")
    OwnFolder().on_run_start(config)
    assert config.hydra.run.dir == given
    monkeypatch.setenv("RANK", "3")
    assert _started(f"{tmp_path}/now") == f"{tmp_path}/now_rank_3"
    assert not list(tmp_path.iterdir())


def test_the_command_makes_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "hydra.core.utils.datetime", SimpleNamespace(now=lambda: SimpleNamespace(strftime=lambda _: "t"))
    )
    seen = []
    for _ in range(2):
        call("train", "data.name=toy", "hydra.job.name=x", task=lambda cfg: seen.append(cfg.run_dir))
    assert seen == [f"{tmp_path}/runs/train/t_bisenetv2_toy", f"{tmp_path}/runs/train/t_bisenetv2_toy_2"]


@pytest.mark.parametrize("flag", [["--cfg", "all", "--resolve"], ["--help"]])
def test_looking_makes_nothing(
    tmp_path: Path, flag: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call("train", *flag, "run_dir=x")
    assert "trainer" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["config.yaml", "metrics.csv", "scores_val.json", "checkpoints/last.ckpt"])
def test_a_used_folder_is_refused_before_anything_is_written(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("old")
    task = held("training in it")(lambda cfg: 1)
    with pytest.raises(UserError, match=r"holds a run already .*resume=.*another folder"):
        task(OmegaConf.create({"run_dir": str(tmp_path)}))
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert path.read_text() == "old"
    assert task(OmegaConf.create({"run_dir": str(tmp_path), "ckpt_path": f"{tmp_path}/checkpoints/last.ckpt"})) == 1
    auto = OmegaConf.create({"run_dir": str(tmp_path), "resume": "auto"})
    if file == "scores_val.json":
        with pytest.raises(UserError, match="holds a run already"):
            task(auto)
    else:
        assert task(auto) == 1, "it was killed before its first checkpoint"
    with pytest.raises(UserError, match="holds a run already"):
        task(OmegaConf.create({"run_dir": str(tmp_path), "ckpt_path": "/elsewhere/last.ckpt"}))


def test_a_run_in_hand_is_refused_to_a_second_process(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"run_dir": str(tmp_path), "ckpt_path": f"{tmp_path}/checkpoints/last.ckpt"})
    task = held("training in it")(lambda cfg: 1)
    with locked(tmp_path, "training in it"):
        with pytest.raises(UserError, match=rf"another process is training in it \(process {os.getpid()} on "):
            task(cfg)
        assert is_locked(tmp_path)
    assert task(cfg) == 1
    assert not list(tmp_path.iterdir()), "the lock leaves nothing"


def test_a_process_that_was_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Those that load data outlive a killed run by seconds."""

    def hold() -> None:
        with locked(tmp_path / "run", "training in it"):
            if os.fork() == 0:
                (tmp_path / "forked").write_text(str(os.getpid()))
                time.sleep(60)
                os._exit(0)
            time.sleep(60)

    holder = _FORK.Process(target=hold)
    holder.start()
    while not (tmp_path / "forked").is_file() or not (tmp_path / "forked").read_text():
        time.sleep(0.02)
    assert is_locked(tmp_path / "run")
    holder.kill()
    holder.join()
    try:
        with locked(tmp_path / "run", "training in it"):
            pass
    finally:
        os.kill(int((tmp_path / "forked").read_text()), signal.SIGKILL)


def test_a_lock_that_its_holder_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it; or two processes would hold the folder by two files."""
    lock, calls = fcntl.flock, []

    def late(file: object, how: int) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(how)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path, "training in it"):
        assert is_locked(tmp_path)
    assert len(calls) == 3


def test_a_disk_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path, "training in it"):
        pass
    assert f"note: {tmp_path} cannot be locked (Function not implemented)" in capsys.readouterr().out


def test_an_error_in_writing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as error, whole_file(tmp_path / "a.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "a.png")


def test_a_file_in_place_of_the_folder_of_runs_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError):
        new_folder(tmp_path / "runs/now")


_TINY = [
    "debug=one_batch", "data.length={train: 2, val: 1, test: 1}", "data.size=[32,64]", "transforms.crop_size=[32,64]",
    "model.net.width_multiplier=0.25", "preflight=false", "callbacks.charts=null", "callbacks.panels=null",
    "worst_images=0",
]  # fmt: skip


@pytest.mark.slow
def test_eight_runs_at_once_never_mix(tmp_path: Path) -> None:
    def start(*where: str) -> list[Ending]:
        with ThreadPoolExecutor(8) as pool:
            ends = [pool.submit(run_ranks, tmp_path, *_TINY, f"seed={seed}", *where) for seed in range(8)]
            return [end for one in ends for end in one.result()]

    assert [end.code for end in start()] == [0] * 8
    seeds = []
    for folder in (tmp_path / "runs/train").iterdir():
        seeds.append(OmegaConf.load(folder / "config.yaml").seed)
        assert load_checkpoint(folder / "checkpoints/best.ckpt")["semseg"]["config"]["seed"] == seeds[-1]
        assert (folder / "scores_test.json").is_file()
    assert sorted(seeds) == [*range(8)]

    ends = start("hydra.run.dir=one")
    assert sorted(end.code for end in ends) == [0] + [1] * 7
    refused = [line for end in ends for line in end.output.splitlines() if line.startswith("error: ")]
    assert len(refused) == 7
    assert all("another process is training in it" in line or "holds a run already" in line for line in refused)
    seed = OmegaConf.load(tmp_path / "one/config.yaml").seed
    assert load_checkpoint(tmp_path / "one/checkpoints/best.ckpt")["semseg"]["config"]["seed"] == seed
    assert not (tmp_path / "one/config_resumed.yaml").exists()
