"""Files of runs and sweeps as a stranger may have written them: one sentence that names the file, and nothing else."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.commands.dashboard import dashboard
from src.data.label_space import LabelSpace, distinct_colors
from src.errors import UserError
from src.evaluation.compare_runs import compare_runs
from src.loggers import wandb
from src.metrics import BoundaryScores, Measures, PerImage, Scores, bootstrap
from src.metrics.calibration import Calibration
from src.profiling.sweep_costs import trial_costs
from src.reports.compare_page import write_comparison
from src.reports.page import write_page
from src.reports.scores_file import write_scores
from src.sweeps import Driver, parse, results
from src.sweeps.executors.slurm import Job
from src.sweeps.journal import read_journal

NAMES = ["road", "car", "sky"]
MATRIX = torch.tensor([[90, 5, 0], [10, 50, 0], [0, 0, 0]])
TREE = {
    "name": "a sweep",
    "objective": "miou",
    "direction": "maximize",
    "devices": 1,
    "seeds": [0, 1],
    "fixed": ["data=toy_streets"],
    "trials": [{"name": "one", "set": ["optimizer.lr=0.1"], "published": 60.5, "note": "x"}],
    "grid": {"optimizer.algorithm.momentum": [0.8, 0.9]},
}
SEARCH = {"trials": 3, "sampler": "random", "seed": 0, "startup": 1, "pruner": "median", "warmup": 1}
SPACE = {"optimizer": {"choices": ["sgd", "adamw"]}, "optimizer.lr": {"low": 0.1, "high": 0.2, "when": {"a": 1}}}
STAMP = {"data": "toy", "splits": ["val"], "images": 2, "device": "cpu", "inference": {"scales": [1.0]}}


def _run(folder: Path) -> Path:
    """What a short training leaves."""
    folder.mkdir(parents=True)
    images = PerImage(3)
    for name in ("a", "b"):
        images.add(name, MATRIX)
    scores = Scores(2 * MATRIX)
    calibration = Calibration(torch.ones(2, 256, dtype=torch.int64))
    boundary = BoundaryScores(torch.ones(3, 3, dtype=torch.int64))
    measures = Measures(images, {(8, 8): 2}, calibration, boundary, bootstrap(images, resamples=20))
    space = LabelSpace(names=NAMES, colors=distinct_colors(3))
    write_scores(scores, space, folder / "scores_test.json", measures=measures, protocol=STAMP)
    (folder / "per_image_test.csv").write_text(images.to_csv(NAMES))
    (folder / "metrics.csv").write_text(
        "step,epoch,train/loss,lr/net,train/data_wait,val/miou\n1,0,2.0,0.1,0.5,\n2,0,nan,0.1,0.5,\n2,0,,,,0.25\n"
    )
    config = {"model": {"name": "net"}, "data": {"name": "toy"}, "seed": 0, "run_dir": str(folder)}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    (folder / "environment.json").write_text(json.dumps({"device": "cpu", "packages": {"torch": "2"}}))
    return folder


def _sweep(folder: Path) -> Path:
    """A sweep whose first trial is done, the second has failed, and the third was lost."""
    spec = parse(TREE)
    one, two, three = (trial.id for trial in [*spec.trials(spec.rows[0]), *spec.trials(spec.rows[1])][:3])
    _run(folder / "trials" / one)
    records = [
        {"event": "start", "trial": one, "resumed": False, "time": 1.0},
        {
            "event": "end",
            "trial": one,
            "status": "done",
            "value": 0.5,
            "seconds": 2.0,
            "curve": [[1, 0.5]],
            "time": 3.0,
        },
        {"event": "end", "trial": two, "status": "failed", "value": None, "seconds": 2.0, "message": "no", "time": 3.0},
        {"event": "start", "trial": three, "resumed": True, "job": "12", "time": 1.0},
        {"event": "lost", "trial": three, "seconds": 1.0, "time": 4.0},
        {"event": "suggest", "row": 0, "params": {"optimizer": "sgd"}, "time": 4.0},
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "sweep.json").write_text(json.dumps(TREE))
    (folder / "latency.json").write_text(json.dumps({"about": "here", "seconds": {"net": [0.1, 0.2]}}))
    return folder


def _compared(folder: Path) -> None:
    write_comparison([folder, folder], folder / "compare.html")


def _swept(folder: Path) -> None:
    from src.commands.sweep import sweep

    sweep(OmegaConf.create({"resume": None, "report": str(folder), "add_seeds": []}))


def _timed(folder: Path) -> None:
    found = results(parse(TREE), folder)
    trial_costs(found, folder, idle=False)


RUN = {
    "scores_test.json": [
        write_page,
        _compared,
        lambda folder: compare_runs(folder, folder, split="test", resamples=20),
    ],
    "per_image_test.csv": [lambda folder: compare_runs(folder, folder, split="test", resamples=20)],
    "metrics.csv": [write_page, _compared],
    "config.yaml": [write_page, _compared],
    "environment.json": [write_page],
    "wandb_id.txt": [lambda folder: wandb.wandb_logger("project", "name", str(folder))],
}
SWEEP = {
    "journal.jsonl": [lambda folder: results(parse(TREE), folder)],
    "sweep.json": [_swept],
    "latency.json": [_timed],
}
MAKERS = {**dict.fromkeys(RUN, _run), **dict.fromkeys(SWEEP, _sweep)}
READERS = [(name, read) for name, reads in {**RUN, **SWEEP}.items() for read in reads]
IDS = [f"{name}-{place}" for name, reads in {**RUN, **SWEEP}.items() for place in range(len(reads))]

DEEP = 10_000
NOTHING = {  # whatever the format: no such file
    "words": b"neither this nor that\n",
    "number": b"5\n",
    "not UTF-8": b"\xff\xfe{}\n",
    "NUL": b"\0\0\n",
    "deep lists": b"[" * DEEP + b"]" * DEEP + b"\n",
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n",
    "open lists": b"[" * DEEP + b"\n",
    "a string": b'"x"\n',
    "a list": b"[1, 2]\n",
    "NaN": b'{"miou": NaN, "seconds": NaN, "event": NaN}\n',
    "infinity": b'{"miou": 1e999, "seconds": 1e999, "event": 1e999}\n',
    "digits": b'{"miou": ' + b"9" * 10_000 + b"}\n",
}
FINE = {".yaml": ("NaN", "infinity", "digits"), ".txt": ("number",)}  # a config is shown, and an id may be 5
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(97 + n)}: &{chr(97 + n)} [{', '.join(['*' + chr(96 + n)] * 9)}]\n" for n in range(1, 12)
)


def _fails(read: Callable[[Path], Any], folder: Path, name: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder)
    message = str(caught.value)
    assert name in message and "\n" not in message and message.isprintable(), message
    return message


@pytest.mark.parametrize(("name", "read"), READERS, ids=IDS)
def test_what_is_no_such_file_is_named(name: str, read: Callable, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path / "folder")
    path = folder / name
    if name != "wandb_id.txt":
        read(folder)  # as it should be
    for kind, content in NOTHING.items():
        if kind in FINE.get(path.suffix, ()):
            continue
        path.write_bytes(content)
        _fails(read, folder, name)
    with path.open("wb") as file:
        file.truncate(10**10)  # sparse
    assert "MiB" in _fails(read, folder, name)


@pytest.mark.parametrize(("name", "read"), READERS, ids=IDS)
def test_links_pipes_and_folders_are_not_read(name: str, read: Callable, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path / "folder")
    path, secret = folder / name, tmp_path / "secret"
    secret.write_text("root:x:0:0")
    for make in (lambda: path.symlink_to(secret), lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        path.unlink(missing_ok=True)
        make()
        try:
            read(folder)  # as if it were not there
        except UserError as error:
            assert "root:x" not in str(error) and "\n" not in str(error)
    for page in folder.glob("*.html"):
        assert "root:x" not in page.read_text()


def test_pictures_of_a_run_are_small_and_its_own(tmp_path: Path) -> None:
    folder, secret = _run(tmp_path / "run"), tmp_path / "secret.png"
    cv2.imwrite(str(secret), np.full((9, 9, 3), 200, np.uint8))
    (folder / "worst_images").mkdir()
    path = folder / "worst_images/1_miou_1.0_a.png"
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (2**31 - 1).to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    for content in (b"", b"x", header + zlib.crc32(header[12:]).to_bytes(4), secret.read_bytes()[:40]):
        path.write_bytes(content)
        (folder / "worst_images/\u00b2_miou_1.0_a.png").write_bytes(content)
        assert b"data:image" not in write_page(folder).read_bytes()  # as one that is being written
    path.unlink()
    path.symlink_to(secret)
    assert "link" in _fails(write_page, folder, path.name)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n", "a: !!python/object/apply:os.system [id]\n", "a: 2024-99-99\n",
                                  "a: !!timestamp zz\n", "a: [\n", "? [a]\n: b\n", "[" * DEEP])  # fmt: skip
def test_yaml_that_grows_loops_calls_or_breaks_is_named(text: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    (folder / "config.yaml").write_text(text)
    for read in RUN["config.yaml"]:
        _fails(read, folder, "config.yaml")


WRONG = [None, True, -1, 2**70, 1e308, 0.5, "x\n", "", [], {}, [[[1]]], {"a": {"b": 1}}, ["x", 1]]


def _mutations(tree: Any) -> Iterator[Any]:
    """``tree`` without each of its entries in turn, and with other values in their place."""
    paths, stack = [], [()]
    while stack:
        path = stack.pop()
        node = _at(tree, path)
        entries = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        paths += [(*path, entry) for entry in list(entries)[:2]]
        stack += [(*path, entry) for entry in list(entries)[:2]]
    if isinstance(tree, dict):
        paths += [(entry,) for entry in tree if (entry,) not in paths]
    for *parents, last in paths:
        for value in [..., *WRONG]:
            changed = copy.deepcopy(tree)
            parent = _at(changed, parents)
            if value is ...:
                del parent[last]
            else:
                parent[last] = value
            yield changed


def _at(tree: Any, path: Any) -> Any:
    for entry in path:
        tree = tree[entry]
    return tree


def _tries(read: Callable[[], Any], change: Any) -> bool:
    """Whether it is taken; if not, one line says why."""
    try:
        read()
    except UserError as error:
        assert "\n" not in str(error), str(error)
        return False
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} of {json.dumps(change)[:1000]}") from error
    return True


@pytest.mark.parametrize("name", ["scores_test.json", "environment.json", "config.yaml"])
def test_entries_of_any_kind_in_a_run_never_end_in_a_trace(name: str, tmp_path: Path, monkeypatch) -> None:
    folder = _run(tmp_path / "run")
    monkeypatch.setattr("src.reports.page.chart", lambda *_, **__: "")  # the same for all
    monkeypatch.setattr("src.reports.compare_page.chart", lambda *_, **__: "")
    tree = OmegaConf.to_container(OmegaConf.load(folder / name))
    taken = []
    for changed in _mutations(tree):
        (folder / name).write_text(json.dumps(changed))
        taken += [_tries(lambda read=read: read(folder), changed) for read in RUN[name]]
    assert any(taken) and (name != "scores_test.json" or not all(taken))


@pytest.mark.parametrize("place", range(6))
def test_records_of_any_kind_in_a_journal_never_end_in_a_trace(place: int, tmp_path: Path) -> None:
    folder = _sweep(tmp_path / "sweep")
    lines = (folder / "journal.jsonl").read_text().splitlines()
    search = parse({**TREE, "trials": None, "grid": None, "search": {**SEARCH, "space": SPACE}})
    taken = []
    for changed in _mutations(json.loads(lines[place])):
        others = [json.dumps(changed) if each == place else line for each, line in enumerate(lines)]
        (folder / "journal.jsonl").write_text("\n".join(others) + "\n")
        taken += [_tries(lambda spec=spec: results(spec, folder), changed) for spec in (parse(TREE), search)]
    assert not all(taken)


def test_entries_of_any_kind_in_a_sweep_never_end_in_a_trace() -> None:
    search = {**TREE, "trials": None, "grid": None, "search": {**SEARCH, "space": SPACE}}
    for tree in (TREE, search):
        taken = [_tries(lambda changed=changed: parse(changed).samples(), changed) for changed in _mutations(tree)]
        assert any(taken) and not all(taken)


HEAD = "image,class,iou,intersection,predicted,truth\n"
CSV = {
    "metrics.csv": [
        "step,epoch,a\n1,0\n", "step,epoch,a\n1,0,2,3\n", "step,epoch,a\nx,0,2\n", "step,epoch,val/miou\n1,0,x\n",
        "epoch,step\n1,2\n", "step,step\n1,2\n", f"step,epoch,a\n{'9' * 30},0,1\n", 'step,epoch,a\n1,0,"\n',
        f"step,epoch,a\n1,0,{'1' * 200_000}\n", "step,epoch,a\n-1,0,1\n", "step,epoch,a\n1e3,0,1\n",
    ],
    "per_image_test.csv": [
        "image,class\na,road\n", "x\n", HEAD + "a,tree,1,1,1,1\n", HEAD + "a,road,1,-1,1,1\n",
        HEAD + f"a,road,1,{'9' * 22},1,1\n", HEAD + "a,road,1,2,1,1\n", HEAD + "a,road,1,1,1,1\na,road,1,1,1,1\n",
        HEAD + "a,road,1,1\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in CSV.items() for text in texts])
def test_odd_rows_are_named(name: str, text: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    (folder / name).write_text(text)
    for read in RUN[name]:
        _fails(read, folder, name)


@pytest.mark.parametrize("text", ["", "step,epoch\n", "step,epoch,val/miou\n", "step,epoch,val/miou\n1,0,0.5\n2,0,0."])
def test_a_history_that_has_only_begun_is_none_that_is_broken(text: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    (folder / "metrics.csv").write_text(text)
    write_page(folder)


@pytest.mark.parametrize(
    "option",
    [
        "--multirun", "--config-dir=/tmp", "-cd=/tmp", "hydra.run.dir=/tmp", "+hydra.callbacks.x._target_=os.system",
        "hydra/launcher=joblib", "+sgd@hydra.callbacks.x=1", "+optimizer@hydra.callbacks.x=sgd", "hydra={}",
        "++hydra.searchpath=[file:///tmp]", "~hydra.run", "model=../../../../tmp/evil", "model='../../evil'",
        "+model/../../../tmp=evil", "inference/window=/tmp/evil", "resume=/tmp/run", "run_dir=../../elsewhere",
        "data.root=http://host/${oc.env:AWS_SECRET}", "name", "a=1\nb", "a=\0", "", "/bin/sh",
    ],
)  # fmt: skip
def test_a_stored_sweep_gives_values_to_options_of_a_run_and_nothing_else(option: str) -> None:
    for tree in ({**TREE, "fixed": [option]}, {**TREE, "trials": [{"name": "a", "set": [option]}]}):
        with pytest.raises(UserError) as caught:
            parse(tree)
        assert str(caught.value).isprintable()
    key = option.partition("=")[0]
    if "hydra" in key or key.startswith("-") or key in ("resume", "run_dir"):
        with pytest.raises(UserError):
            parse({**TREE, "grid": {key: ["x"]}})


@pytest.mark.parametrize("option", ["~loss.threshold", "+model.scales.x=1", "data.root=../data", "model=bisenetv2",
                                    "inference/window=sliding", "callbacks.panels=null", "data.root=${data.name}",
                                    "data.length={train: 320, val: 32}", "aux_loss=null"])  # fmt: skip
def test_options_of_a_run_are_taken(option: str) -> None:
    assert option in parse({**TREE, "fixed": [option]}).fixed


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\nb", "..", "", "x" * 5000, "\x1b[31m"])
def test_names_of_rows_stay_in_the_folder_of_the_sweep(name: str, tmp_path: Path) -> None:
    for row in parse({**TREE, "trials": [{"name": name}]}).rows:
        for trial in parse(TREE).trials(row):
            assert re.fullmatch(r"\d\d_[A-Za-z0-9.-]*_seed\d", trial.id) and len(trial.id) < 100
        assert row.name.isprintable()


class _Executor:
    """Starts nothing."""

    def free(self) -> bool:
        return True

    def adopt(self, job: str | None, folder: Path) -> None:
        return None

    def start(self, command: Callable[[], list[str]], folder: Path, environment: Any) -> Any:
        command()
        raise AssertionError("a trial was started")


@pytest.mark.parametrize("link", ["trials", "trials/00_one-optimizer.algorithm.momentum-0.8_seed0", "journal.jsonl"])
def test_a_sweep_removes_and_writes_nothing_behind_a_link(link: str, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "sweep"
    (home / "00_one-optimizer.algorithm.momentum-0.8_seed0").mkdir(parents=True)
    (home / "00_one-optimizer.algorithm.momentum-0.8_seed0/kept").write_text("x")
    (home / "kept").write_text("x\ny")
    place = folder / link
    place.parent.mkdir(parents=True)
    place.symlink_to(home / "kept" if link.endswith("jsonl") else home)
    with pytest.raises(UserError, match="is a link"):
        Driver(parse(TREE), folder, executor=_Executor()).run()
    assert (home / "kept").read_text() == "x\ny"
    assert (home / "00_one-optimizer.algorithm.momentum-0.8_seed0/kept").read_text() == "x"


class _Marks:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("outcome", [("success", 0), ("success", 3), ("error", "trace"), ("success", "x"), 5, None])
def test_results_of_cluster_jobs_are_read_and_not_run(outcome: Any, tmp_path: Path) -> None:
    paths = types.SimpleNamespace(result_pickle=tmp_path / "1_0_result.pkl")
    job = Job(types.SimpleNamespace(job_id="1", paths=paths, done=lambda: True), tmp_path)
    content = ("success", _Marks(tmp_path / "ran")) if outcome is None else outcome
    paths.result_pickle.write_bytes(pickle.dumps(content))
    assert job.poll() == {("success", 0): 0, ("success", 3): 3}.get(outcome, 1)
    assert not (tmp_path / "ran").exists()


def test_a_config_in_a_sweep_builds_nets_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = _sweep(tmp_path / "sweep")
    path = next(folder.glob("trials/*/config.yaml"))
    net = {"_target_": "torch.utils.collect_env.run", "command": f"mkdir {tmp_path}/ran"}
    rest = {"data": {"num_classes": 3}, "transforms": {"output_size": None, "crop_size": [32, 32]}}
    for text in (
        json.dumps({"model": {"name": "x", "net": net}, **rest}),
        json.dumps({"model": {"name": "x", "net": "${oc.env:HOME}"}, **rest}),
        "5",
        "model: 5",
        BOMB,
    ):
        path.write_text(text)
        assert not trial_costs(results(parse(TREE), folder), folder, idle=False).of
        assert "is not measured" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("compare", [[], 5, {"a": 1}, [5]])
def test_a_comparison_of_nothing_is_refused(compare: Any) -> None:
    with pytest.raises(UserError, match="compare"):
        dashboard(OmegaConf.create({"run": None, "compare": compare, "out": None}))


def test_a_journal_may_end_in_half_a_line_and_counts_are_whole(tmp_path: Path) -> None:
    path = _sweep(tmp_path / "sweep") / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "e')
    assert len(read_journal(path)) == 6
    assert np.isfinite(results(parse(TREE), path.parent)[0].mean)
