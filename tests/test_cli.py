"""Between the command line and the config: names of any kind, wrong guesses, and what is read when something fails."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch._utils import ExceptionWrapper

from src.cli.command import command
from src.errors import UserError
from src.files.atomic import write_bytes
from tests.conftest import ROOT, call, composed

NASTY = ["Müller, [1]", "a=b", "it's", "$HOME", "new\nline"]
MORE = [  # what tests/test_overrides.py tries at the function that writes them
    "{z}", "a;b #1", "1e5", "null ",
    "Müller", "北京", "[x]", "(1)", "a,b", 'say "hi"', "~t", "a & b", "-lead", "true", "ckpt", "c", "k", "=", "a\\b",
]  # fmt: skip

Ends = Callable[..., str]
Task = Callable[[DictConfig], Any]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ends:
    """Runs a command with a task of its own, asserts that it ends with status 1 in one line, and returns that line."""

    def run(
        name: str,
        *overrides: str,
        task: Callable[[DictConfig], Any] = lambda cfg: None,
        prepare: Callable[[list[str]], Any] | None = None,
    ) -> str:
        (tmp_path / "work").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setenv("SEMSEG_CACHE", str(tmp_path / "cache"))
        with pytest.raises(SystemExit) as ending:
            call(name, *overrides, task=task, prepare=prepare)
        assert ending.value.code == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command up to its task; returns what the task gets for ``keys``."""

    def run(name: str, *overrides: str, keys: str) -> Any:
        monkeypatch.chdir(tmp_path)
        found: list[Any] = []
        call(name, *overrides, task=lambda cfg: found.extend(OmegaConf.select(cfg, key) for key in keys.split()))
        return found if len(found) > 1 else found[0]

    return run


@functools.cache
def _config() -> dict[str, Any]:
    return OmegaConf.to_container(composed("train", "logger=none"), resolve=False)


def _saved_run(folder: Path) -> Path:
    """A run folder whose checkpoints hold no more than a config."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last", "best"):
        torch.save({"semseg": {"config": _config()}}, folder / f"checkpoints/{name}.ckpt")
    return folder


@pytest.mark.parametrize("name", [*NASTY, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)], ids=ascii)
def test_a_run_folder_of_any_name_is_used_and_resumed(settled, tmp_path: Path, name: str) -> None:
    run = str(_saved_run(tmp_path / name))
    given = [f"ckpt={name}", f"source={name}/a.png", f"out={name}/o"]
    expected = [f"{name}/checkpoints/best.ckpt", f"{name}/a.png", f"{name}/o"]
    assert settled("predict", *given, keys="ckpt source out") == expected
    expected = [f"{run}/checkpoints/last.ckpt", run]
    assert settled("train", f"resume={run}", keys="ckpt_path run_dir") == expected
    given = [f"hydra.run.dir={name}", f"init_from={name}", f"data.root={run}"]
    assert settled("train", "data=folder", *given, keys="run_dir init_from data.root") == [run, name, run]


@pytest.mark.parametrize("name", ["evaluate", "export", "submit", "autolabel", "benchmark"])
def test_every_command_takes_checkpoints_of_any_name(settled, tmp_path: Path, name: str) -> None:
    folder = "Müller's [1], k=c #2 北京"
    _saved_run(tmp_path / folder)
    for given in (f"ckpt={folder}", f"++ckpt={folder}"):
        places = ["source=photos", "out=masks"] if name == "autolabel" else []
        assert settled(name, given, *places, keys="ckpt") == f"{folder}/checkpoints/best.ckpt"


def test_lists_of_folders_of_any_name(settled) -> None:
    given = "compare=[Müller/a (1), 北京=b]"
    assert settled("evaluate", given, keys="compare") == ["Müller/a (1)", "北京=b"]
    assert settled("dashboard", "compare=Müller [1]", keys="compare") == "Müller [1]"
    assert settled("dashboard", "run=1e5", keys="run") == "1e5"
    assert settled("benchmark", "onnx=[it's.onnx]", keys="onnx") == ["it's.onnx"]
    assert settled("shards", "data.root=[a b,c#1]", "out=ö", keys="data.root out") == [["a b", "c#1"], "ö"]


def test_a_run_folder_with_a_reference_in_its_name_is_refused(ends: Ends, tmp_path: Path) -> None:
    line = ends("train", r"hydra.run.dir=a\${b}")
    assert (
        line == f"{tmp_path}/work/a${{b}}: a folder to work in cannot have ${{ in its path; go to another, or rename it"
    )
    assert not list((tmp_path / "work").iterdir())


def test_trials_of_a_sweep_on_the_command_line(settled) -> None:
    """Also options of all trials: they reach ``src.train`` as they were typed here."""
    given = ["sweep.trials=[{name: a, set: [model=fcn8s, optimizer.lr=0.1]}]", "data.root=/x/Müller, 2", "data=folder"]
    trials, options = settled("sweep", *given, keys="sweep.trials options")
    assert trials == [{"name": "a", "set": ["model=fcn8s", "optimizer.lr=0.1"]}]
    cfg = settled("train", *options, keys="data.root data.name")
    assert cfg == ["/x/Müller, 2", "folder"]


def test_a_reference_that_leads_nowhere_says_how_a_name_is_written(ends: Ends, settled) -> None:
    line = ends("dashboard", "run=a${b}", task=lambda cfg: cfg.run)
    assert line == r"run: ${b} refers to an option that does not exist; where ${ is part of a name, write \${"
    assert r"write \${" in ends("dashboard", "run=a${")
    assert settled("dashboard", r"run=a\${b}", keys="run") == "a${b}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lr=3", "Did you mean 'optimizer.lr'?"),
        ("learning_rate=3", "Did you mean 'optimizer.lr'?"),
        ("epochs=3", "Did you mean 'trainer.max_epochs'?"),
        ("max_epochs=3", "Did you mean 'trainer.max_epochs'?"),
        ("batch_size=3", "Did you mean 'data.batch_size'?"),
        ("gpus=2", "Did you mean 'trainer.devices'?"),
        ("crop=2", "Did you mean 'transforms.crop_size'?"),
        ("pretrained=true", "Did you mean 'model.net.backbone.pretrained'? model=ann and "),
        ("gamma=2", "Did you mean 'loss.gamma'? loss=focal has it."),
        ("loss.gamma=2", "loss.gamma: there is no such option. It is one of loss=focal."),
        ("model=unet", "It is available as model=smp model.net.arch=unet."),
        ("schedule.q=1", "schedule has: "),
        ("modle=fcn8s", "Did you mean 'model'?"),
        ("~optimizer.lrr", "~optimizer.lrr: there is no such option. Did you mean 'optimizer.lr'?"),
        ("+seed=3", "+seed: this option exists already; leave out the +"),
        ("optimizer.lr=1,2", "a list is 'optimizer.lr=[1,2]'"),
        ("data=null", "data=null: names no option of this group"),
        ("model=5", "model=5: names no option of this group"),
        ("=3", "=3: names no option"),
        ("ckpt =x", "'ckpt ' cannot be the name of an option"),
        ("Größe=3", "'Größe' cannot be the name of an option"),
        ("transforms.scale=[0.5,", "put all of it in quotes, as 'transforms.scale=[1, 2]'"),
        ("data.classes={Müller: [1,2,3]}", "letters"),
        ("photos", "photos: options are written name=value; write data.root=photos"),
        ("fcn8s", "write model=fcn8s"),
        ("my best.ckpt", "write 'init_from=my best.ckpt'"),
        ("--lr", "--lr: there is no such flag; options are written name=value, without dashes."),
        ("--learning-rate=3", "without dashes. Did you mean 'optimizer.lr'?"),
        ("--cfg", "argument --cfg/-c: expected one argument"),
    ],
)  # fmt: skip
def test_a_wrong_guess_is_told_what_was_meant(ends: Ends, given: str, words: str) -> None:
    assert words in ends("train", given)


@pytest.mark.parametrize(
    ("name", "word", "meant"),
    [
        ("predict", "photos", "source=photos"), ("predict", "a.ckpt", "ckpt=a.ckpt"),
        ("evaluate", "runs/x", "ckpt=runs/x"), ("dashboard", "runs/x", "run=runs/x"),
        ("doctor", "mine", "data.root=mine"), ("sweep", "toy_streets", "sweep=toy_streets"),
    ],
)  # fmt: skip
def test_a_word_alone_is_told_its_name(ends: Ends, name: str, word: str, meant: str) -> None:
    assert ends(name, word) == f"{word}: options are written name=value; write {meant}"


def test_options_and_flags_come_in_any_order(settled, tmp_path: Path) -> None:
    """Lightning, too, appends options to the command line when it starts further processes."""
    given = ["seed=1", "--config-dir", str(tmp_path), "seed=2", "-r", "trainer.max_epochs=3"]
    assert settled("train", *given, keys="seed trainer.max_epochs") == [2, 3]


@pytest.mark.parametrize("name", ['say "hi"', "end\\", "it's, a [b] = {c}", "a'b\"c"])
def test_lightning_tells_further_processes_the_run_folder(settled, tmp_path: Path, name: str) -> None:
    assert settled("train", f'hydra.run.dir="{name}"', keys="run_dir") == str(tmp_path / name)


def test_the_guess_is_among_the_options_of_the_chosen_model(ends: Ends) -> None:
    assert "Did you mean 'model.net.arch'?" in ends("train", "model=smp", "arch=fpn")


def _own_options(folder: Path, content: str) -> list[str]:
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment/mine.yaml").write_text(content, errors="surrogateescape")
    return ["--config-dir", str(folder), "experiment=mine"]


def test_own_options_are_kept_in_a_file_as_the_page_says(settled, tmp_path: Path) -> None:
    page = (ROOT / "docs/own_data.md").read_text()
    content = page.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert "python -m src.train --config-dir options experiment=crops" in page
    (tmp_path / "options/experiment").mkdir(parents=True)
    (tmp_path / "options/experiment/crops.yaml").write_text(content)
    given = ["--config-dir", "options", "experiment=crops", "optimizer.lr=0.5"]
    keys = "data.name data.root model.name transforms.crop_size trainer.max_epochs optimizer.lr"
    assert settled("train", *given, keys=keys) == ["folder", "/data/crops", "bisenetv1", [384, 384], 60, 0.5]


@pytest.mark.parametrize(
    "content", ["data: {root: x}\n", "defaults:\n  - override /data: folder\ndata: {root: x}\n", "lr: 3\n"]
)
def test_a_file_of_options_without_its_first_line(ends: Ends, tmp_path: Path, content: str) -> None:
    line = ends("train", *_own_options(tmp_path / "mine", content))
    assert line.startswith("experiment=mine: its file has to begin with the line `# @package _global_`")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("data: {root: x\nseed: ]\n", "mine.yaml, line 3: expected ',' or '}'"),
        ("name: a\x01b\n", "special characters are not allowed"),
        ("name: K\udcf6ln\n", r"a text file is not utf-8, near b'age _global_\nname: K\xf6ln"),
        ("defaults:\n  - /model: fcn8s\n", "- override /model: fcn8s"),
        (
            "defaults:\n  - override /modle: fcn8s\n",
            "experiment/mine.yaml: modle: there is no such option. Did you mean",
        ),
        ("defaults:\n  - override /model: fcn9s\n", "model=fcn9s: there is no such option. Did you mean 'fcn8s'?"),
    ],
)
def test_a_wrong_file_of_options(ends: Ends, tmp_path: Path, content: str, words: str) -> None:
    assert words in ends("train", *_own_options(tmp_path / "mine", f"# @package _global_\n{content}"))


def _raise(error: BaseException) -> Callable[[DictConfig], None]:
    def task(_: DictConfig) -> None:
        raise error

    return task


def test_an_unexpected_error_is_one_line_with_the_place_of_its_trace(ends: Ends, tmp_path: Path) -> None:
    line = ends("dashboard", "run=x", task=_raise(KeyError("what\nelse")))
    said, _, place = line.partition("; this is a fault of semseg, please report it with ")
    assert said == r"KeyError: 'what\nelse'"
    assert Path(place).parent == tmp_path / "cache/tracebacks"
    trace = Path(place).read_text()
    assert "Traceback (most recent call last)" in trace
    assert "raise error" in trace
    assert '"torch": "' in trace
    assert "python" in trace.split('"command"')[1].splitlines()[0]


def test_where_no_trace_can_be_saved_it_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEMSEG_CACHE", "/proc/none")
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc/none")
    with pytest.raises(SystemExit):
        call("dashboard", "run=x", task=_raise(KeyError("what")))
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "report it with the trace above" in printed.splitlines()[-1]


def test_the_whole_trace_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["dashboard", "run=x"])
    with pytest.raises(KeyError):
        command("dashboard", _raise(KeyError("what")))


def test_errors_before_the_config_are_told_in_the_same_way(ends: Ends) -> None:
    line = ends("dashboard", "run=x", prepare=lambda overrides: 1 / 0)
    assert line.startswith("ZeroDivisionError: division by zero; this is a fault")


def _full(file: str | None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", *([file] if file else []))


def _in_worker(error: BaseException) -> BaseException:
    """As the main process gets it from a loading process."""
    try:
        raise error
    except BaseException:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    try:
        wrapped.reraise()
    except BaseException as again:
        return again
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_full("a.csv"), ["a.csv cannot be written completely", "free space"]),
        (_full(None), ["a file cannot be written completely", "free space"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ["Disk quota exceeded", "free space"]),
        (OSError(errno.EFBIG, "File too large", "b.csv"), ["b.csv", "free space"]),
        (OSError("5000 requested and 123 written"), ["a file could not be written", "free space"]),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), ["free space"]),
        (OSError(errno.EMFILE, "Too many open files"), ["Too many open files", "ulimit -n", "data.num_workers"]),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.txt"), ["x.txt", "check the path"]),
        (OSError(errno.EACCES, "Permission denied", "x.txt"), ["x.txt: Permission denied", "permissions"]),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), ["xxx: File name too long", "shorter"]),
        (_in_worker(_full("w.csv")), ["w.csv cannot be written", "free space"]),
        (_in_worker(OSError(errno.EACCES, "Permission denied", "w.png")), ["w.png: Permission denied", "permissions"]),
        (_in_worker(KeyError("label")), ["KeyError: 'label'; this is a fault of semseg"]),
        (_in_worker(UserError("a.png: broken; remove it")), ["a.png: broken; remove it"]),
        (_in_worker(MemoryError()), ["main memory is full"]),
        (MemoryError(), ["main memory is full", "data.batch_size"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."), ["is full"]),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ["refused; the system refused this"]),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"), ["the GPU's memory is full"]),
        (UserError("a\x1b[31m\udcff.png: broken; remove it"), [r"a\x1b[31m\xff.png: broken"]),
        (ModuleNotFoundError("No module named 'onnx'", name="onnx"), ["pip install onnx"]),
    ],
    ids=lambda value: f"{value!r}"[:60] if isinstance(value, BaseException) else "",
)  # fmt: skip
def test_what_the_system_refuses_is_told_with_file_and_remedy(
    ends: Ends, error: BaseException, words: list[str]
) -> None:
    line = ends("dashboard", "run=x", task=_raise(error))
    for word in words:
        assert word in line


def test_a_full_disk_is_told_with_the_file(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    line = ends("dashboard", "run=x", task=lambda cfg: write_bytes(tmp_path / "metrics.csv", b"x"))
    assert line.startswith(f"{tmp_path}/metrics.csv cannot be written completely (No space left on device); free space")


def test_ctrl_c_is_one_word(ends: Ends) -> None:
    assert ends("dashboard", "run=x", task=_raise(KeyboardInterrupt())) == "stopped"


# What needs a process of its own.

PRINTS = """
import sys
from src.cli.command import command
sys.argv[1:] = ["run=x"]
command("dashboard", lambda cfg: [print("line", number, flush=True) for number in range(100_000)])
"""


def _shell(line: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **env}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=variables, capture_output=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(f"-c '{PRINTS}'", marks=pytest.mark.slow),
        pytest.param("-m src.train --cfg job", marks=pytest.mark.slow),
        "-m src.train --help",
    ],
)
def test_a_reader_that_ends_is_no_error(tmp_path: Path, what: str) -> None:
    done = _shell(f"$PYTHON {what} | head -1", tmp_path)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


@pytest.mark.slow
def test_any_name_is_printed_in_any_locale(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name in ("Größe 北京", "$'bad \\xff'"):
        quoted = name if name.startswith("$") else f"'{name}'"
        done = _shell(f"$PYTHON -m src.train resume={quoted}", tmp_path, **plain)
        assert done.returncode == 1
        assert done.stderr.startswith(b"error: resume=")
        assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_a_run_in_a_folder_of_any_name_is_trained_resumed_and_used(run, tmp_path: Path) -> None:
    name = 'Müller\'s 北京, run #1 = [a] (b) {c} $HOME & ~x; "q" \\ -'
    done = run("train", "debug=one_batch", f"hydra.run.dir={name}/1e5")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    done = run("train", f"resume={name}/1e5")
    assert done.returncode == 0, done.stderr
    photo = next((tmp_path / name).rglob("panels/*.png"))
    (tmp_path / name / "it's, a photo [1].png").write_bytes(photo.read_bytes())
    done = run(
        "predict", f"ckpt={name}/1e5", f"source={name}/it's, a photo [1].png", f"out={name}/out, #2", "device=cpu"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name / "out, #2/index/it's, a photo [1].png").is_file()
