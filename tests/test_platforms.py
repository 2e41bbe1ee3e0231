"""What Windows lacks has something in its place; the container and the workflow run what exists."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from src.files import portable
from tests.conftest import ROOT, SMALL

# Without them a module of Python's own would fail, or they are looked for where they are used.
LACKING = {
    "os": ["fork", "register_at_fork", "killpg", "pread", "sched_getaffinity", "sysconf", "O_NOFOLLOW", "O_NONBLOCK"],
    "signal": ["SIGUSR1", "SIGKILL", "pthread_sigmask", "pthread_kill"],
    "select": ["poll"],
}
WINDOWS = f"""
import os, select, signal, sys, types
import fcntl, multiprocessing, subprocess  # which look for some of it themselves

def locking(descriptor, mode, size, fcntl=fcntl):
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 2**30
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, size, 0, os.SEEK_CUR)

sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
sys.modules |= dict.fromkeys(["fcntl", "resource", "termios", "pwd", "grp"])
import torch.utils.data, torch.distributed
for module in (os, select, signal):
    for name in {LACKING!r}[module.__name__]:
        delattr(module, name)
"""
TRAIN = """
import runpy
sys.argv = ["train", *sys.argv[1:]]
runpy.run_module("src.train", run_name="__main__", alter_sys=True)
"""
LOCKS = """
import subprocess, tempfile
from pathlib import Path
from src.errors import UserError
from src.files.atomic import is_locked, locked, whole_file
from src.files.portable import open_to_read, read_at

folder = Path(sys.argv[1])
with locked(folder, "writing"):
    other = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2**30)"
    done = subprocess.run([sys.executable, "-c", other, folder / ".lock"], capture_output=True, close_fds=False)
    assert b"BlockingIOError" in done.stderr
    with whole_file(folder / "a.txt") as partial:
        partial.write_bytes(b"0123456789")
assert not (folder / ".lock").exists() and not is_locked(folder)
assert read_at(open_to_read(folder / "a.txt"), 4, 3) == b"3456"
"""


def _run(code: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False)


def _modules() -> list[str]:
    names = (path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "src").rglob("*.py"))
    return [".".join(name) for name in names if name[-1] not in ("__init__", "__main__")]


@pytest.mark.slow
def test_a_net_is_trained_without_what_windows_lacks(tmp_path: Path) -> None:
    """And every module can be imported."""
    few = ["data.size=[32,64]", "transforms.crop_size=[32,64]", "data.batch_size=2", "data.num_workers=0"]
    words = [*SMALL, *few, "trainer=cpu", "trainer.max_steps=1", "logger=none", f"hydra.run.dir={tmp_path}/run"]
    imports = f"import importlib\nfor name in {_modules()}: importlib.import_module(name)\n"
    done = _run(WINDOWS + imports + TRAIN, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/scores_test.json").is_file()


def test_files_are_locked_and_read_without_what_windows_lacks(tmp_path: Path) -> None:
    done = _run(WINDOWS.replace("import torch.utils.data, torch.distributed\n", "") + LOCKS, tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_calls_that_windows_lacks_are_listed() -> None:
    """Whoever uses another one gives it a fallback and a row in docs/platforms.md."""
    page = (ROOT / "docs/platforms.md").read_text(encoding="utf-8")
    missing = {name for names in LACKING.values() for name in names} | {"geteuid", "setsid", "statvfs", "mkfifo"}
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        used = {each.attr for each in attributes if ast.unparse(each.value) in LACKING} & missing
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        for name in used | imported & {"fcntl", "resource", "termios", "pwd", "grp"}:
            place = path.relative_to(ROOT).as_posix()
            assert re.search(rf"`{name}`.*`{re.escape(place)}`", page), f"{place} uses {name}"


def test_a_lock_is_refused_at_once(tmp_path: Path) -> None:
    first, second = ((tmp_path / "lock").open("ab") for _ in range(2))
    with first, second:
        portable.hold(first.fileno())
        with pytest.raises(BlockingIOError):
            portable.hold(second.fileno())


def _copied() -> list[str]:
    """What the Dockerfile copies."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]


def test_the_container_is_built_from_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    for name in _copied():
        assert (ROOT / name).exists()
        assert name.split("/")[0] in kept
    steps = [line for line in lines if line.startswith("RUN ") and "chmod" not in line]
    assert steps == [f"RUN sh scripts/container_build.sh {step} /opt/semseg" for step in ("libraries", "package")]
    assert 'ENTRYPOINT ["semseg"]' in lines
    assert any(line.startswith("USER ") and not line.startswith("USER 0") for line in lines)


@pytest.mark.slow
def test_the_container_is_built_without_a_daemon(tmp_path: Path) -> None:
    """Both steps, from the files that the Dockerfile copies; the libraries are those of this environment."""
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    for name in _copied():
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, build / name)
    (build / "requirements.txt").write_text("", encoding="utf-8")
    script = ["sh", "scripts/container_build.sh"]
    subprocess.run([*script, "libraries", prefix], cwd=build, check=True, timeout=300)
    site = next(prefix.glob("lib/python*/site-packages"))
    subprocess.run([prefix / "bin/pip", "uninstall", "-q", "-y", "setuptools"], check=True, timeout=300)  # an old one
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    done = subprocess.run([*script, "package", prefix], cwd=build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("semseg ")
    assert subprocess.run([*script, "nothing", prefix], cwd=build, capture_output=True, timeout=60).returncode == 1


def test_the_workflow_runs_what_exists() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for job in jobs.values():
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/(checkout|setup-python)@v\d+", step["uses"])
                continue
            words = step["run"].split()
            if words[0] == "make":
                assert words[1] in targets
            elif words[:2] != ["python", "-m"]:
                assert words[0] in ("python", "docker")
            assert all((ROOT / word).is_file() for word in words if word.startswith(("scripts/", "requirements")))
            assert "windows" not in job["runs-on"] or words[0] != "make"
    asked = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for version in jobs["fast"]["strategy"]["matrix"]["python"]:
        assert f"Python :: {version}" in asked
