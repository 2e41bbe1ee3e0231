"""A checkpoint with entries that are missing, wrong or damaged ends in one sentence that names the file."""

from __future__ import annotations

import copy
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from src.build import from_checkpoint, init_from
from src.build.resumed_config import config_to_resume, resumed_config
from src.build.saved_config import read_sections
from src.checkpoints.io import METADATA_KEY
from src.checkpoints.load import load_checkpoint
from src.cli.checkpoint_defaults import of_checkpoint
from src.errors import UserError
from tests.conftest import NET, ROOT, call, save_untrained

SMALL = [*NET, "trainer=cpu", "logger=none"]
WRONG = [
    None,
    5,
    -1,
    0.5,
    float("nan"),
    "x",
    "",
    [],
    [[1, "a"]],
    {},
    {"_target_": "os.getcwd"},
    True,
    ...,
]  # the last: absent


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a checkpoint of an untrained net holds."""
    return torch.load(save_untrained(tmp_path_factory.mktemp("net") / "net.ckpt", *SMALL), weights_only=True)


@pytest.fixture
def saved(checkpoint: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    def save(path: tuple[Any, ...] = (), value: Any = ...) -> Path:
        content = {"state_dict": dict(checkpoint["state_dict"]), METADATA_KEY: copy.deepcopy(checkpoint[METADATA_KEY])}
        if path:
            node: Any = content
            for key in path[:-1]:
                node = node[key]
            if value is ...:
                del node[path[-1]]
            else:
                node[path[-1]] = value
        torch.save(content, tmp_path / "net.ckpt")
        return tmp_path / "net.ckpt"

    return save


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the metadata that is read."""
    if path:
        yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _paths(value, (*path, key))
    elif isinstance(node, list) and node:
        yield from _paths(node[0], (*path, 0))


def _try(file: Path) -> None:
    """Reads a file in every way; each succeeds or ends in a sentence that names it."""
    module = from_checkpoint.load_module
    readings: list[Callable[[], Any]] = [
        lambda: module(file),
        lambda: config_to_resume(file, ["trainer.max_epochs=1"]),
        lambda: of_checkpoint([f"ckpt={file}"]),
        lambda: from_checkpoint.checkpoint_file(file),
    ]
    for read in readings:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read()
            except UserError as error:
                assert str(file) in str(error), error
                assert "\n" not in str(error)


def _attempt(saved: Callable[..., Path], checkpoint: dict[str, Any], count: int, seed: int) -> None:
    draw, entry = random.Random(seed), checkpoint[METADATA_KEY]
    places = [("state_dict",), (METADATA_KEY,), *((METADATA_KEY, *path) for path in _paths(entry))]
    places += [("state_dict", name) for name in list(checkpoint["state_dict"])[:3]]
    for path in draw.choices(places, k=count):
        value = draw.choice(WRONG)
        try:
            _try(saved(path, value))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {path} = {value!r}") from error


def test_wrong_entries_end_in_a_sentence(saved: Callable[..., Path], checkpoint: dict[str, Any]) -> None:
    _attempt(saved, checkpoint, count=25, seed=0)


@pytest.mark.slow
def test_more_wrong_entries_end_in_a_sentence(saved: Callable[..., Path], checkpoint: dict[str, Any]) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    _attempt(saved, checkpoint, count=200, seed=seed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    saved: Callable[..., Path], checkpoint: dict[str, Any], value: float
) -> None:
    name = next(name for name, tensor in checkpoint["state_dict"].items() if tensor.is_floating_point())
    file = saved(("state_dict", name), torch.full_like(checkpoint["state_dict"][name], value))
    with pytest.raises(UserError, match=rf"{file}: its weights are not finite \({name}"):
        from_checkpoint.load_module(file)
    module = from_checkpoint.load_module(saved())
    file = saved(("state_dict", name), torch.full_like(checkpoint["state_dict"][name], value))
    with pytest.raises(UserError, match="not finite"):
        init_from.init_from(module, file)


def test_a_flipped_bit_in_a_weight_is_noticed(saved: Callable[..., Path], checkpoint: dict[str, Any]) -> None:
    file = saved()
    content = bytearray(file.read_bytes())
    name = next(name for name, tensor in checkpoint["state_dict"].items() if tensor.dim() == 4)
    weight = checkpoint["state_dict"][name].flatten()[0].item()
    place = content.index(struct.pack("<f", weight))
    content[place + 3] ^= 0x40  # of the exponent
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match=rf"{file}: is damaged .*copy or download it again"):
        load_checkpoint(file)


def test_an_exported_net_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(UserError, match=r"net\.onnx: is an exported net.*docs/export\.md.*give the checkpoint"):
        load_checkpoint(tmp_path / "net.onnx")


def test_a_run_folder_is_loaded_as_its_checkpoint(saved: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    saved().rename(tmp_path / "run/checkpoints/best.ckpt")
    assert not from_checkpoint.load_module(tmp_path / "run").training


def test_a_compressed_archive_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(saved()) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(UserError, match="compressed archive"):
        load_checkpoint(bomb)


def test_a_net_that_is_not_the_weights_costs_no_memory(saved: Callable[..., Path]) -> None:
    """A classifier of a hundred million classes would need gigabytes; the shapes are compared before."""
    file = saved((METADATA_KEY, "config", "model", "net", "num_classes"), 10**8)
    with pytest.raises(UserError, match="its weights do not fit the net that its config describes"):
        from_checkpoint.load_module(file)


CONFIG = {"model": {"name": "x"}, "data": {"name": "y", "root": "here"}, "inference": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"a": "${model.b}", "b": "${model.a}"}}, "refers to itself"),
        ({"model": {"net": {"x": "${model}"}}}, "refers to itself"),
        ({"model": {"a": "${oc.env:HOME}"}}, r"model\.a=.*is no reference to one of its own values"),
        ({"model": {"a": "${seed}"}}, r"model\.a=.*is no reference to one of its own values"),
        ({"model": {"a": "x${data.name}", "b": "y${model.a}"}}, "no reference"),
        ({"model": {"a": "x${data}"}}, "no reference"),
        ({"model": {"a": "x${oc.env:HOME}"}}, "no reference"),
        ({"model": {"a": "${data.name}" * 1000}}, "no reference"),
        ({"model": {"a": "${data.${data.name}}"}}, "no reference"),
        ({"model": {"a": object()}}, "holds a object at model.a"),
        ({"model": {("a", 1): 1}}, "has a key of kind tuple"),
        ({"model": {"a": "x" * 2_000_000}}, "text of 2000000 characters"),
        ({"model": {"a": list(range(200_000))}}, "too large"),
        ({"model": 5}, "model in its config is no mapping"),
    ],
)
def test_a_config_that_is_no_tree_of_plain_values_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"a file: .*{message}"):
        read_sections(CONFIG | change, "a file")


def test_a_name_may_be_put_together_from_own_values() -> None:
    """As ``conf/model/smp.yaml`` does, whose checkpoints of earlier versions have it so."""
    assert read_sections(CONFIG | {"model": {"name": "smp_${model.arch}", "arch": "fpn"}}, "a file")


def test_references_that_multiply_are_refused_at_once() -> None:
    """Each level doubles the one below: sixty levels would be more values than any memory holds."""
    levels = {f"a{level}": [f"${{model.a{level + 1}}}"] * 2 for level in range(30)} | {"a30": 1}
    with pytest.raises(UserError, match="too large once its references are followed"):
        read_sections(CONFIG | {"model": levels}, "a file")


@pytest.mark.parametrize("shared", [True, False])
def test_containers_that_hold_each_other_are_refused_at_once(shared: bool) -> None:
    node: list[Any] = []
    if shared:
        for _ in range(60):
            node = [node, node]
    else:
        node.append(node)
    with pytest.raises(UserError, match=r"nested too deeply|too large"):
        read_sections(CONFIG | {"model": {"a": node}}, "a file")


def test_an_address_in_a_file_is_left_to_the_command_line() -> None:
    config = CONFIG | {"data": {"root": "https://elsewhere/set", "dataset": {"root": "${data.root}", "x": "s3://y"}}}
    assert read_sections(config, "a file")["data"] == {"root": "???", "dataset": {"root": "${data.root}", "x": "???"}}


def test_what_steers_the_program_is_not_read() -> None:
    config = CONFIG | {"hydra": {}, "run_dir": "/", "callbacks": {}, "defaults": []}
    assert set(read_sections(config, "a file")) == {"model", "data", "inference"}


def test_a_resumed_run_writes_where_conf_says(checkpoint: dict[str, Any]) -> None:
    """Values of callbacks and loggers come from the file, and nothing that says what they are or where they write."""
    config = copy.deepcopy(checkpoint[METADATA_KEY]["config"])
    best = {"_target_": "os.system", "dirpath": "/", "filename": "../../x", "monitor": "val/pixel_accuracy"}
    config["callbacks"] = {"best": best, "panels": None, "history": {"run_dir": "/"}}
    config["logger"] = {"tensorboard": {"save_dir": "/", "version": "../../x", "name": None}}
    config["trainer"] |= {"default_root_dir": "/", "plugins": ["x"], "max_epochs": 7}
    files = (ROOT / "conf/callbacks/default.yaml", ROOT / "conf/logger/tensorboard.yaml")
    installed, logger = (OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in files)
    found = resumed_config(config, "a file")
    assert found["callbacks"]["panels"] is None
    assert found["callbacks"]["best"] == {**installed["best"], "monitor": "val/pixel_accuracy"}
    assert found["callbacks"]["history"] == installed["history"]
    assert found["logger"]["tensorboard"] == logger["tensorboard"]
    assert found["trainer"]["max_epochs"] == 7
    assert not {"default_root_dir", "plugins"} & found["trainer"].keys()
    config["callbacks"]["mine"] = {"_target_": "src.callbacks.Panels"}
    with pytest.raises(UserError, match=r"a file: the run has callbacks\.mine, .*give it on the command line again"):
        resumed_config(config, "a file")
    assert "mine" not in resumed_config(config, "a file", ["+callbacks.mine={}"])["callbacks"]


@pytest.mark.slow
def test_a_run_whose_state_is_wrong_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever entry of Lightning's is wrong or missing, resuming ends in one sentence that names the checkpoint."""
    monkeypatch.chdir(tmp_path)
    tiny = [*SMALL, "data.size=[32,64]", "data.length={train: 4, val: 1, test: 1}", "data.batch_size=2"]
    options = [*tiny, "data.num_workers=0", "trainer.max_epochs=1", "worst_images=0", "preflight=false"]
    call("train", *options, "transforms.crop_size=[32,64]", "hydra.run.dir=run")
    file = tmp_path / "run/checkpoints/last.ckpt"
    good = torch.load(file, weights_only=True)
    entries = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers", "state_dict")
    for name, value in [(name, value) for name in entries for value in (..., 5, "x", {"x": {"y": 1}}, [[1]])]:
        broken = dict(good)
        if value is ...:
            del broken[name]
        else:
            broken[name] = value
        torch.save(broken, file)
        capsys.readouterr()
        try:
            call("train", "resume=run", "trainer.max_epochs=2")
        except SystemExit:
            err = capsys.readouterr().err
            assert "Traceback" not in err, f"{name}={value}: {err}"
            assert [line for line in err.splitlines() if line.startswith("error: ") and "last.ckpt" in line], (
                f"{name}={value}: {err}"
            )
