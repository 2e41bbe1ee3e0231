"""``python -m src.sweep``: every shipped sweep makes runs, and one is carried through with real ones."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from src.build.validate import check_launch
from src.cli.sweep_line import prepare as prepare_sweep
from src.commands import sweep as command
from src.errors import UserError
from src.files.atomic import locked
from src.sweeps import Driver, Sweep, parse
from tests.conftest import ROOT
from tests.sweeps.drive import stub_command

CONF = ROOT / "conf"
SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
PAPERS = [name for name in SWEEPS if not name.startswith("toy_") and not name.endswith("_camvid")]
SCORED_ON = {"Cityscapes val": "cityscapes", "PASCAL VOC 2012 val": "voc_aug", "Mapillary val": "mapillary"}
TINY = [
    "data.length={train: 8, val: 2, test: 2}", "data.size=[32,64]", "data.crop_size=[32,64]", "data.num_workers=0",
    "data.batch_size=4", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none",
    "callbacks.charts=null", "callbacks.panels=null", "callbacks.page=null", "model.net.width_multiplier=0.25",
    "model.net.head_channels=8",
]  # fmt: skip


@pytest.fixture
def _composer() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def shipped(name: str) -> Sweep:
    own, defaults = OmegaConf.load(CONF / "sweep" / f"{name}.yaml"), OmegaConf.load(CONF / "sweep.yaml").sweep
    return parse({**OmegaConf.to_container(OmegaConf.merge(defaults, own), resolve=False), "name": name})


@pytest.mark.parametrize("name", SWEEPS)
def test_every_shipped_sweep_makes_runs(name: str, _composer: None) -> None:
    """The last row of each; all trials take Hydra minutes, in the slow test below."""
    spec = shipped(name)
    assert spec.title
    assert all(row.published is None or 10 < row.published < 100 for row in spec.rows)
    assert not any(row.published for row in spec.rows) or (spec.source and spec.published_on)
    last = spec.rows[-1].options if spec.rows else []
    cfg = compose("train", overrides=[*spec.fixed, *last, "run_dir=x"])
    OmegaConf.to_container(cfg, resolve=True)
    if name in PAPERS:
        _assert_measured_as_published(spec, cfg)


def _assert_measured_as_published(spec: Sweep, cfg: DictConfig) -> None:
    assert cfg.data.name.removesuffix("_autolabelled") == SCORED_ON[spec.published_on]
    assert cfg.data.splits.test == ["val"]
    assert "val" not in cfg.data.splits.train


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_table_says_where_its_figures_are_from(name: str) -> None:
    """A table of fewer than two figures says so, a note belongs to a figure, and no row stands twice."""
    spec = shipped(name)
    assert re.search(r"arXiv \d{4}\.\d{4,5}", spec.source)
    assert sum(row.published is not None for row in spec.rows) >= 2 or re.search("no table|not at hand", spec.source)
    assert "memory" not in spec.source
    assert not any(row.note for row in spec.rows if row.published is None)
    assert len({row.name for row in spec.rows}) == len(spec.rows) > 1
    assert len({frozenset(row.options) for row in spec.rows}) == len(spec.rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_every_trial_of_every_shipped_sweep_composes(name: str, _composer: None) -> None:
    spec = shipped(name)
    for config in command.check(spec):
        if name in PAPERS:
            _assert_measured_as_published(spec, OmegaConf.create(config))


def test_the_command_line_is_split_between_sweep_and_trials(tmp_path: Path) -> None:
    root, overrides = prepare_sweep(["sweep=toy_streets", "jobs=2", "data.root=it's", "~loss.x", "--info", "all"])
    assert root == "sweep"
    assert overrides == ["sweep=toy_streets", "jobs=2", "--info", "all", r"options=['data.root=it\'s','~loss.x']"]
    with pytest.raises(UserError, match=r"resume=.*: .*sweep\.json not found"):
        prepare_sweep([f"resume={tmp_path}"])
    (tmp_path / "sweep.json").write_text("{}")
    assert prepare_sweep([f"report={tmp_path}"])[1][-1] == f"hydra.run.dir='{tmp_path}'"
    for changed in ("trainer.max_epochs=3", "sweep.seeds=[1]"):
        with pytest.raises(UserError, match=rf"{changed.split('=')[0]}.*a sweep keeps its trials"):
            prepare_sweep([f"resume={tmp_path}", changed])


def test_a_finished_sweep_takes_further_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Driver", functools.partial(Driver, command=stub_command, poll=0.02))
    tree = {"objective": "miou", "direction": "maximize", "devices": 1, "seeds": [0], "trials": [{"name": "row"}]}
    (tmp_path / "sweep.json").write_text(json.dumps(tree))
    defaults = OmegaConf.load(CONF / "sweep.yaml")
    options = {"gpus": [], "sweep": {}, "run_dir": str(tmp_path), "resume": str(tmp_path)}

    def run(**changes: object) -> None:
        command.sweep(OmegaConf.merge(defaults, options, changes))

    run()
    run(add_seeds=[0, 2])
    spec = parse(json.loads((tmp_path / "sweep.json").read_text()))
    assert spec.seeds == (0, 2)
    started = [line for line in (tmp_path / "journal.jsonl").read_text().splitlines() if '"start"' in line]
    assert len(started) == 2, "what had ended is not run again"
    assert "seeds 0, 2" in (tmp_path / "report.md").read_text()
    with pytest.raises(UserError, match=r"add_seeds=\[3\] goes with resume=FOLDER"):
        run(add_seeds=3, resume=None, report=str(tmp_path))
    with locked(tmp_path, "running this sweep"), pytest.raises(UserError, match=r"add_seeds=\[3\]: .* is being run"):
        run(add_seeds=3)
    assert parse(json.loads((tmp_path / "sweep.json").read_text())).seeds == (0, 2)


def test_a_row_that_makes_no_run_is_named_before_anything_starts() -> None:
    tree = {"objective": "miou", "direction": "maximize", "devices": 1, "seeds": [0]}
    spec = parse({**tree, "trials": [{"name": "good"}, {"name": "bad", "set": ["model.net.fusoin=sum"]}]})
    with pytest.raises(UserError, match=r"sweep\.trials: 'bad' \(model\.net\.fusoin=sum\) is no run: .*fusoin"):
        command.check(spec)


@pytest.mark.parametrize(
    ("overrides", "several"),
    [
        (["trainer=cpu"], False),
        (["trainer.devices=[3]"], False),
        (["trainer=ddp"], True),
        (["trainer.devices=2"], True),
        (["trainer.num_nodes=2"], True),
    ],
)
def test_multirun_is_for_one_device(overrides: list[str], several: bool, _composer: None) -> None:
    cfg = compose("train", overrides=[*overrides, "hydra.mode=MULTIRUN", "run_dir=x"], return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    try:
        if several:
            with pytest.raises(UserError, match=r"--multirun runs on one device.*python -m src\.sweep"):
                check_launch(cfg)
        else:
            check_launch(cfg)
    finally:
        HydraConfig.instance().cfg = before


@pytest.mark.parametrize(("variable", "number"), [("WORLD_SIZE", 2), ("SLURM_STEP_NUM_TASKS", 4)])
def test_multirun_is_refused_where_several_processes_were_started(
    variable: str, number: int, _composer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torchrun, or by srun; a batch job of several tasks that starts one process is not."""
    cfg = compose("train", overrides=["trainer=cpu", "hydra.mode=MULTIRUN", "run_dir=x"], return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        monkeypatch.setenv("SLURM_NTASKS", "4")
        check_launch(cfg)
        monkeypatch.setenv(variable, f"{number}")
        with pytest.raises(UserError, match=rf"{number} processes were started; use python -m src\.sweep"):
            check_launch(cfg)
    finally:
        HydraConfig.instance().cfg = before


def _sweep(*overrides: str) -> None:
    """The command, but for its console."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("sweep", overrides=[*overrides], return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        command.sweep(cfg)
    finally:
        HydraConfig.instance().cfg = before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["jobs=two"], "jobs=two must be a whole number"),
        (["gpus=3"], "gpus=3 must be auto, or a list"),
        (["executor=slurm"], "executor=slurm is unknown"),
        (["sweep.devices=8", "gpus=[0,1]"], "need 8 GPUs, and there are 2"),
        (["options=['job=2']"], r"job: there is no such option\. Did you mean 'jobs'"),
        (["options=['data=cityscapes','data.root=/nowhere']"], "data.root=/nowhere: there is no such folder"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_written(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    one = ["sweep.trials=[{name: a}]", "sweep.fixed=[]"]
    with pytest.raises(UserError, match=message):
        _sweep(*one, *overrides, f"run_dir={tmp_path / 's'}")
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a sweep already; resume it with resume="):
        _sweep(f"run_dir={tmp_path}")
    assert (tmp_path / "sweep.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"optimizer": {"choices": ["sgd", "adamx"]}}, r"'optimizer' \(optimizer=adamx\) is no run: .*mean 'adamw'"),
        ({"optimizer.lrr": {"low": 0.1, "high": 1.0}}, r"optimizer\.lrr: there is no such option"),
        ({"optimizer.lr": {"low": 0.1}}, r"sweep\.search\.space: optimizer\.lr: .*give choices, or low and high"),
    ],
)
def test_a_search_is_checked_before_it_starts(space: dict[str, object], message: str) -> None:
    pytest.importorskip("optuna")
    tree = {"objective": "miou", "direction": "maximize", "devices": 1, "seeds": [0]}
    with pytest.raises(UserError, match=message):
        command.check(parse({**tree, "search": {"trials": 2, "space": space}}))


@pytest.mark.slow
def test_multirun_trains_one_after_another_and_refuses_several_processes_by_one_line(run, tmp_path: Path) -> None:
    refused = run("train", "--multirun", *TINY, "trainer.devices=2", "seed=0,1")
    assert refused.returncode == 1 and refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: --multirun runs on one device, and trainer.devices=2") and "src.sweep" in line
    done = run("train", "--multirun", *TINY, "seed=0,1")
    assert done.returncode == 0, done.stderr
    configs = [OmegaConf.load(path) for path in sorted(tmp_path.glob("runs/train_sweep/*/*/config.yaml"))]
    assert [cfg.seed for cfg in configs] == [0, 1]
    assert all((tmp_path / cfg.run_dir / "scores_test.json").is_file() for cfg in configs)


@pytest.mark.slow
def test_real_trials_of_two_processes_one_of_which_fails(run, tmp_path: Path) -> None:
    """Two rows, each torchrun with two gloo processes; the failed one is reported, the other is in the table."""
    good = "{name: sum, set: ['model.net.fusion=sum'], published: 68.6}"
    bad = "{name: bad, set: ['init_from=/nowhere']}"
    rows = f"sweep.trials=[{good},{bad}]"
    done = run(
        "sweep", "sweep.devices=2", "sweep.seeds=[0]", "sweep.fixed=[]", rows, *TINY, "trainer.sync_batchnorm=false",
        "jobs=1", "hydra.run.dir=s", env={"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "error: 1 of 2 trials failed, 01_bad_seed0 first: error: init_from=/nowhere" in done.stderr
    assert sorted(path.name for path in (tmp_path / "s/trials").iterdir()) == ["00_sum_seed0", "01_bad_seed0"]
    scores = json.loads((tmp_path / "s/trials/00_sum_seed0/scores_test.json").read_text())
    assert scores["protocol"]["devices"] == 2
    written = (tmp_path / "s/report.md").read_text()
    assert f"{100 * scores['miou']:.2f}" in written
    assert "toy_streets test, 2 images" in written
    assert (tmp_path / "s/bars.png").is_file()
    assert (tmp_path / "s/report.html").is_file()
    journal = tmp_path / "s/journal.jsonl"  # as if the driver had been killed while the good trial was tested
    records = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in records if not ('"end"' in line and "00_sum" in line)))
    (tmp_path / "s/trials/00_sum_seed0/scores_test.json").unlink()
    again = run("sweep", "resume=s", env={"CUDA_VISIBLE_DEVICES": ""})
    assert "00_sum_seed0: started, from its last checkpoint" in again.stdout
    assert "01_bad_seed0: started" not in again.stdout
    resumed = json.loads((tmp_path / "s/trials/00_sum_seed0/scores_test.json").read_text())
    assert resumed["confusion_matrix"] == scores["confusion_matrix"]
