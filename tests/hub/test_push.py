"""A run pushed to a hub and used from there: the same scores to the last bit, pinned in what is written of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from omegaconf import OmegaConf

from src.build.from_checkpoint import load_module
from src.build.init_from import check_start
from src.commands import doctor
from src.commands.push import push
from src.errors import UserError
from src.exporting.bundle_writer import write_bundle
from src.hub.resolve import origin
from src.segmenter import load
from tests.conftest import ROOT, call, composed
from tests.hub.small_hub import TOKEN, SmallHub


@pytest.fixture(scope="module")
def bundle(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of an untrained checkpoint; to be read, not changed."""
    return write_bundle(untrained, tmp_path_factory.mktemp("bundle") / "net", picture=False)


@pytest.fixture
def pushed(small: SmallHub, bundle: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The address of the bundle once it was pushed."""
    call("push", f"ckpt={bundle}", "repo=jan/net", "message=the first")
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    address = f"hf://jan/net@{small.commits['jan/net'][0][0]}"
    assert f"ckpt={address}" in said.out
    assert f"{small.url}/jan/net" in said.out
    return address


def test_scores_from_the_hub_are_those_of_the_checkpoint(small: SmallHub, pushed: str, untrained: Path) -> None:
    assert len(small.commits["jan/net"]) == 1
    image = torch.rand(1, 3, 64, 96)
    wanted = load_module(untrained).scores(image)
    for address in (pushed, "hf://jan/net"):
        assert torch.equal(load_module(address).scores(image), wanted)


@pytest.mark.slow
def test_a_run_is_pushed_and_loaded_in_python(small: SmallHub, untrained: Path) -> None:
    call("push", f"ckpt={untrained}", "repo=jan/run", "private=true")
    assert small.private == {"jan/run": True}
    assert {"model.safetensors", "config.json", "README.md", "SHA256SUMS"} <= small.commits["jan/run"][0][1].keys()
    assert "picture.png" not in small.commits["jan/run"][0][1]  # of the data, which are not ours to publish
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    wanted = load(untrained, device="cpu").scores(image)
    assert np.array_equal(load("hf://jan/run", device="cpu").scores(image), wanted)


def test_a_bundle_is_copied_as_it_is(small: SmallHub, pushed: str) -> None:
    call("push", f"ckpt={pushed}", "repo=jan/copy")
    assert small.commits["jan/copy"][0][1] == small.commits["jan/net"][0][1]


def test_a_zip_is_pushed_as_it_is(small: SmallHub, untrained: Path, tmp_path: Path) -> None:
    whole = write_bundle(untrained, tmp_path / "net.semseg.zip", licence="apache-2.0", picture=False)
    call("push", f"ckpt={whole}", "repo=jan/zip")
    with zipfile.ZipFile(whole) as archive:
        assert small.commits["jan/zip"][0][1] == {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("option", ["licence=mit", "picture=true"])
def test_the_card_of_a_bundle_is_not_written_again(
    small: SmallHub, bundle: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call("push", f"ckpt={bundle}", "repo=jan/net", option)
    assert "is a bundle, which is pushed as it is; choose" in capsys.readouterr().err
    assert not small.commits


def test_only_a_whole_bundle_is_pushed_and_nothing_that_lies_beside_it(
    small: SmallHub, bundle: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(bundle, mine)
    (mine / ".git").mkdir()
    for name in (".env", ".git/config"):
        (mine / name).write_text("secret")
    cfg = OmegaConf.create(
        {"ckpt": str(mine), "repo": "jan/mine", "message": None, "private": False, "licence": None, "picture": False}
    )
    push(cfg)
    assert small.commits["jan/mine"][0][1].keys() == {path.name for path in bundle.iterdir()}
    (mine / "README.md").write_text("another")
    with pytest.raises(UserError, match=r"README\.md: is not the file that SHA256SUMS lists"):
        push(cfg)
    (tmp_path / "secret").write_text("secret")
    (mine / "README.md").unlink()
    (mine / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="outside of its folder"):
        push(cfg)
    assert len(small.commits["jan/mine"]) == 1


def test_a_changed_file_on_the_hub_is_refused(small: SmallHub, pushed: str) -> None:
    weights = bytearray(small.commits["jan/net"][0][1]["model.safetensors"])
    weights[-1] ^= 1
    small.commit("jan/net", {"model.safetensors": bytes(weights)})
    with pytest.raises(UserError, match=r"model\.safetensors: is not the file that SHA256SUMS lists"):
        load_module("hf://jan/net")


@pytest.mark.slow
def test_the_commit_is_in_the_stamp_and_the_saved_config(
    small: SmallHub, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["data.length={train: 1, val: 1, test: 1}", "data.num_workers=0", "trainer=cpu"]
    call("evaluate", "ckpt=hf://jan/net", *data, "worst=0", "hydra.run.dir=scored")
    (scores,) = Path("scored").glob("scores_*.json")
    assert json.loads(scores.read_text())["protocol"]["checkpoint"]["from"] == pushed
    assert yaml.safe_load(Path("scored/config.yaml").read_text())["ckpt"] == pushed
    assert not [path for path in Path("scored").rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_start_from_the_hub_is_pinned(small: SmallHub, pushed: str) -> None:
    assert origin(check_start("hf://jan/net")) == pushed


def test_the_doctor_lists_downloads(
    small: SmallHub, pushed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = composed("doctor", "init_from=hf://jan/net", "model=deeplab_v3", "model.net.backbone.pretrained=true")
    before = len(small.requests)
    doctor._list_downloads(cfg)
    check_start("hf://jan/net")
    doctor._list_downloads(cfg)
    said = capsys.readouterr().out
    assert said.count("init_from   hf://jan/net: not here yet, will be downloaded") == 1
    assert said.count("init_from   hf://jan/net: in the cache, ") == 1
    assert "backbone    resnet" in said
    assert len([each for each in small.requests[before:] if "timm" in each[1]]) == 0


def test_a_hub_that_forbids_ends_in_one_line(
    small: SmallHub, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", secret := "hf_" + "w" * 34)
    with pytest.raises(SystemExit):
        call("push", f"ckpt={bundle}", "repo=jan/net")
    said = capsys.readouterr()
    assert "repo=jan/net: the server forbids it; use a token that may" in said.err
    assert secret not in said.out + said.err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(SystemExit):
        call("push", f"ckpt={bundle}", "repo=jan/net")
    assert "run 'hf auth login'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_starts_from_the_hub_and_starts_so_again(small: SmallHub, pushed: str, tmp_path: Path) -> None:
    """In processes of its own, as people run it; the last with the whole trace of its failure."""
    env = {**os.environ, "HF_ENDPOINT": small.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    env["SEMSEG_CACHE"] = str(tmp_path / "cache")
    env.pop("HYDRA_FULL_ERROR", None)
    small_net = ["model=fcn_torchvision", "model.net.backbone.name=test_resnet", "logger=none", "trainer=cpu"]
    small_net += [
        "data.length={train: 2, val: 2, test: 2}",
        "trainer.max_steps=1",
        "data.num_workers=0",
        "data.batch_size=2",
    ]

    def run(name: str, start: str, **more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "src.train", *small_net, f"init_from={start}", f"hydra.run.dir={tmp_path / name}"]
        return subprocess.run(line, cwd=ROOT, env={**env, **more}, capture_output=True, text=True, timeout=300)

    first = run("first", "hf://jan/net")
    assert first.returncode == 0, first.stderr
    saved = yaml.safe_load((tmp_path / "first/config.yaml").read_text())["init_from"]
    assert saved == pushed
    assert f"init_from {pushed} (this project): loaded" in first.stdout
    small.commit("jan/net", {"config.json": b"{}"})  # what comes later does not matter
    code = "import sys; from src.build.init_from import check_start; print(check_start(sys.argv[1]))"
    line, offline = [sys.executable, "-c", code, saved], {**env, "HF_HUB_OFFLINE": "1"}
    again = subprocess.run(line, cwd=ROOT, env=offline, capture_output=True, text=True, timeout=300)
    assert pushed.rpartition("@")[2] in again.stdout, again.stderr
    refused = run("refused", "hf://jan/other", HF_HUB_OFFLINE="1", HYDRA_FULL_ERROR="1")
    assert "HF_HUB_OFFLINE is set" in refused.stderr
    texts = [each.stdout + each.stderr for each in (first, again, refused)]
    texts += [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in texts if TOKEN in text]
