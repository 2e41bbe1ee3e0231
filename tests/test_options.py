"""No wrong value of any option of any command gets past the check, which comes before anything is built or written."""

from __future__ import annotations

import functools
import importlib.util
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.build import from_checkpoint
from src.cli.prepare import PREPARE
from src.files.project import CONFIG_DIR
from src.schema.commands import COMMANDS
from tests.conftest import ROOT, call, composed

OF_CHECKPOINT = ("autolabel", "evaluate", "export", "predict", "submit")
GROUPS = {  # command -> further choices of groups, so that each option of the project occurs
    "train": [
        [],
        [
            "data=folder",
            "sampler=class_uniform",
            "loss=ce_dice",
            "optimizer=sgd",
            "schedule=step",
            "logger=tensorboard",
        ],
        ["data=shards", "sampler=shuffle_shards", "loss=rmi", "aux_loss=ohem", "schedule=poly", "model=deeplab_v3plus"],
        ["data=cityscapes_autolabelled", "model=ann", "model/scales=explicit", "loss=focal", "inference/refine=crf"],
        ["data=camvid32", "model=hrnet_ocr_hierarchical", "loss=image_weighted_ce", "inference/window=sliding"],
        ["data=pascal_context", "model=fcn8s", "model/scales=max", "loss=bce_dice", "schedule=constant"],
    ],
    "doctor": [[]],
    "shards": [["out=x"]],
    "benchmark": [["out=x"], ["out=x", "model=pspnet"]],
    "dashboard": [["run=x"]],
    "push": [["ckpt=x", "repo=user/name"]],
    "convert": [["ckpt=x", "out=y", "model=bisenetv1"]],
    "sweep": [["sweep.name=x"]],
}

Front = Callable[..., str | None]


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Front:
    """Gives a command line to a command that does nothing once it is let pass; returns the line that refuses it."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(name: str, *overrides: str) -> str | None:
        passed: list[Any] = []
        try:
            call(name, *overrides, task=passed.append)
        except SystemExit as ending:
            assert not passed
            assert ending.code == 1
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1, lines
            assert lines[0].startswith("error: ")
            assert list(tmp_path.rglob("*")) == [work], overrides
            return lines[0].removeprefix("error: ")
        capsys.readouterr()
        for path in work.iterdir():  # an accepted run has a folder
            shutil.rmtree(path)
        return None

    return run


REPORTED = [  # command, option, what the line says of it
    ("train", "seed=-1", "seed=-1 must be a whole number"),
    ("train", "seed=abc", "seed=abc must be a whole number"),
    ("train", f"seed={10**20}", f"seed={10**20} must be a whole number"),
    ("train", "trainer.gradient_clip_val=nan", "trainer.gradient_clip_val=nan must be a number of 0 or more, or null"),
    ("train", "trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1 must be a number of 0 or more, or null"),
    ("train", "trainer.val_check_interval=0", "trainer.val_check_interval=0 must be a whole number of batches"),
    ("train", "trainer.accelerator=tpu", "trainer.accelerator=tpu must be auto, cpu, gpu, cuda or mps"),
    *(
        ("train", f"trainer.precision={value}", f"trainer.precision={value} must be 32-true, 16-mixed, bf16-mixed")
        for value in ("16-true", "bf16-true", "64-true", "transformer-engine")
    ),
    ("train", "trainer.limit_test_batches=0", "trainer.limit_test_batches=0 must be a whole number of batches of 1"),
    ("train", "trainer.num_nodes=2", "trainer.num_nodes=2 waits for 1 other machines"),
    ("train", "data.num_workers=100000", "data.num_workers=100000: this machine has"),
    ("train", "trainer.devices=100000", "trainer.devices=100000: this machine has"),
    ("train", "data.splits=null", "data.splits=null must be a mapping"),
    ("train", "data.dataset=null", "data.dataset=null must be a mapping with _target_"),
    ("train", "data.dataset._target_=src.nope", "data.dataset._target_=src.nope is not allowed here"),
    ("train", "transforms.crop_size=[100000,100000]", "transforms.crop_size=[100000, 100000] must be [height, width]"),
    (
        "train",
        "transforms.crop_size=[32000,32000]",
        "[32000, 32000] with data.batch_size=16 takes",
    ),
    ("train", "compile=maybe", "compile=maybe must be true or false"),
    ("train", "inference.scales=[nan]", "inference.scales=[nan] must be a list of factors above 0"),
    ("train", "model.net=null", "model.net=null must be a mapping with _target_"),
    ("train", "model.aux_weights=5", "model.aux_weights=5 must be a mapping of names to numbers"),
    ("train", "run_dir=null", "run_dir=null must be a path"),
    ("train", "~optimizer.lr", "optimizer.lr is not set; give it on the command line as optimizer.lr=..."),
    ("train", "data=folder data.classes=5", "data.classes=5 must be a list"),
    ("train", "data=folder data.fractions=5", "data.fractions=5 must be a mapping of names to numbers"),
    ("train", "data=folder data.confidence_suffix=5", "data.confidence_suffix=5 must be a text, or null"),
    ("train", "data=folder data.seed=abc", "data.seed=abc must be a whole number"),
    ("train", "data.class_weights=[1,2]", "data.class_weights has 2 entries but there are 11 classes"),
    ("train", "optimizer.lr=nan", "optimizer.lr=nan must be a number of 0 or more"),
    ("train", "optimizer.decay_on=some", "optimizer.decay_on=some must be kernels or all"),
    ("train", "transforms.scale=[2,1]", "[2, 1] must be a list of numbers above 0; two are a range, [low, high]"),
    ("train", "preflight=maybe", "preflight=maybe must be true or false"),
    ("train", "inference.flip=5", "inference.flip=5 must be true or false"),
    ("train", "callbacks.last.every_n_epochs=0", "callbacks.last.every_n_epochs=0 must be a whole number of 1 or more"),
    ("train", "data.name=a/../../b", "data.name=a/../../b must be a name of at most 100 bytes without / and \\"),
    ("train", "+optimzer=5", "optimzer: there is no such option. Did you mean 'optimizer'?"),
    ("train", "+model.net.fusoin=sum", "model.net.fusoin: there is no such option. Did you mean 'fusion'?"),
    ("train", "seed=-1 ema=2 compile=maybe", "(2 more to correct)"),
    ("shards", "out=x shard_mb=nan", "shard_mb=nan must be a number above 0"),
    ("shards", "out=x split=[]", "split=[] must be a text or a list of names"),
    ("benchmark", "size=[5]", "size=[5] must be [height, width] in pixels"),
    ("benchmark", "mode=egaer", "Did you mean 'eager'?"),
    ("dashboard", "compare=[]", "compare=[] must be a path"),
    ("dashboard", "run=null", "give either run=FOLDER, or compare="),
    ("convert", "ckpt=x", "out is not set; give it on the command line as out=..."),
    ("sweep", "executor=slurm", "executor=slurm must be local, submitit or ray"),
    ("train", "model=[{a:1}]", "a group must be the name of one of its options"),
    ("doctor", "limit=0", "limit=0 must be a whole number of 1 or more, or null"),
]


@pytest.mark.parametrize(("name", "line", "words"), REPORTED, ids=lambda each: each[:60])
def test_what_was_reported_is_refused_before_anything_is_written(
    front: Front, name: str, line: str, words: str
) -> None:
    assert words in (front(name, *line.split()) or "")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the smallest run that there is."""
    run = tmp_path_factory.mktemp("options") / "run"
    tiny = ["data.length={train: 2, val: 1, test: 1}", "data.size=[32,64]", "transforms.crop_size=[32,64]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        call("train", "debug=one_batch", *tiny, f"hydra.run.dir={run}")
    return run / "checkpoints/last.ckpt"


OF_A_CHECKPOINT = [
    ("predict", "save=5", "save=5 must be a text or a list of kinds, or null"),
    ("predict", "huge.block=abc", "huge.block=abc must be a multiple of 256 pixels"),
    ("predict", "huge.block=300", "huge.block=300 must be a multiple of 256 pixels"),
    ("predict", "alpha=nan", "alpha=nan must be a number from 0 to 1"),
    ("predict", "batch_size=true", "batch_size=true must be a whole number of 1 or more, or null"),
    ("autolabel", "ids=5", "ids=5 must be train, cityscapes or a list of whole numbers"),
    ("evaluate", "bootstrap=-1", "bootstrap=-1 must be a whole number of 0 or more"),
    ("evaluate", "compare=[a]", "compare=[a] must be two run folders"),
    ("evaluate", "output_stride=5", "output_stride=5 must be 8, 16 or 32, or null"),
    ("submit", "out=x.tar", "out=x.tar: must end in .zip"),
    ("export", "format=onxx", "format=onxx must be onnx, pt2 or bundle. Did you mean 'onnx'?"),
    ("export", "size=[100000,1000000]", "GB for the images of a batch"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line", "words"), OF_A_CHECKPOINT, ids=lambda each: each[:60])
def test_what_was_reported_of_commands_on_a_checkpoint(
    front: Front, checkpoint: Path, name: str, line: str, words: str
) -> None:
    assert front(name, *_base(name, checkpoint)) is None
    assert words in (front(name, *_base(name, checkpoint), line) or "")


def _base(name: str, checkpoint: Path | None) -> list[str]:
    places = {"predict": ["source=x"], "autolabel": ["source=x", "out=y"], "submit": ["+data.root=x"]}
    return [f"ckpt={checkpoint}", *places.get(name, [])]


# --- random wrong values ----------------------------------------------------------------------------------------------

QUIET = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.sampled_from([-1, 0, 1, 0.5, 10**9]),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    st.sampled_from(["", "x" * 5000, "北京/ü", "../..", "nan", "'", "\\", "${seed}", "???"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab_"), inner, max_size=2),
    max_leaves=4,
)


def _options(node: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from _options(value, f"{above}{name}.")


def _composed(name: str, overrides: list[str]) -> list[str]:
    """Every option that a command has with these choices of groups."""
    if prepare := PREPARE.get(name):
        prepare(overrides)  # which offers choices of its own
    return list(_options(OmegaConf.to_container(composed(name, *overrides), resolve=False)))


def _written(value: Any) -> str:
    """``value`` as Hydra reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return "'" + value.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(each)}" for key, each in value.items()) + "}"
    return str(value)


def _not_finite(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_not_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def _refuses_nonsense(front: Front, lines: list[tuple[str, list[str], list[str]]], count: int) -> None:
    """Draws ``count`` lines of (command, overrides, options), each with a wrong value of one option."""
    refused = 0

    @settings(max_examples=count, phases=[Phase.generate], **QUIET)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        nonlocal refused
        name, overrides, options = data.draw(st.sampled_from(lines))
        option, value = data.draw(st.sampled_from(options)), data.draw(VALUES)
        line = front(name, *overrides, f"{option}={_written(value)}")
        refused += line is not None
        assert line is not None or not _not_finite(value), option

    run()
    assert refused > count / 2


def _lines(names: list[str]) -> list[tuple[str, list[str], list[str]]]:
    return [(name, chosen, _composed(name, chosen)) for name in names for chosen in GROUPS[name]]


@pytest.mark.slow
def test_random_values_are_refused_in_one_line_or_can_be(front: Front) -> None:
    _refuses_nonsense(front, _lines(["benchmark", "dashboard", "doctor", "shards", "sweep", "train"]), 60)


@pytest.mark.slow
def test_a_thousand_random_values(front: Front, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(sorted(GROUPS))
    monkeypatch.setattr(from_checkpoint, "saved_config", functools.cache(from_checkpoint.saved_config))  # read once
    for name in OF_CHECKPOINT:
        lines.append((name, _base(name, checkpoint), _own_options(name)))
    assert {name for name, _, _ in lines} == set(COMMANDS)
    _refuses_nonsense(front, lines, 1000)


def _own_options(name: str) -> list[str]:
    """Options of a command on a checkpoint: those of its root config and of the checkpoint's inference."""
    own = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / f"{name}.yaml"), resolve=False)
    own = {key: value for key, value in own.items() if key not in ("defaults", "hydra", "ckpt")}
    return [*_options(own), "inference.scales", "inference.flip", "inference.multiple", "model.scales"]


def test_the_page_of_options_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("options_table", ROOT / "scripts" / "options_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "options.md").read_text() == script.page()
