"""A checkpoint is data: whatever its config says, nothing in it runs, calls out, or shows the environment.

Every way to name something harmful is put into every place of a checkpoint's config, and the file is given to every
command that reads one. A marker file tells that code ran, a server on this computer that it was called, and a secret
in the environment that it was shown.
"""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.checkpoints.io import METADATA_KEY
from tests.conftest import NET, ROOT, call

SECRET = "kept-to-myself-5309"
TINY = [
    *NET,
    *("data.size=[32,64]", "trainer=cpu", "logger=none"),
    *("data.length={train: 2, val: 1, test: 1}", "data.batch_size=2", "data.num_workers=0", "debug=one_batch"),
    *("transforms.crop_size=[32,64]", "worst_images=0"),
    *("callbacks.charts=null", "callbacks.panels=null", "callbacks.page=null"),
]


class Server(socketserver.ThreadingTCPServer):
    """Counts who calls."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.calls = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.calls += 1
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("train", *TINY, "hydra.run.dir=run")
    return folder / "run"


def _harmful(marker: Path, url: str) -> dict[str, Any]:
    """Nodes that do harm if what they name is called; each of them worked against some way of checking."""
    touch = f"touch {marker}"
    return {
        "a function of the system": {"_target_": "os.system", "command": touch},
        "a function that runs commands": {"_target_": "torch.utils.collect_env.run", "command": touch},
        "a module that ours imports": {"_target_": "src.models.layers.torch.utils.collect_env.run", "command": touch},
        "a function in a list": [{"_target_": "subprocess.check_output", "args": touch, "shell": True}],
        "a download": {"_target_": "torch.hub.load_state_dict_from_url", "url": f"{url}/x.pth"},
        "a function of ours that writes": {
            "_target_": "src.files.atomic.write_bytes",
            "path": str(marker),
            "content": "x",
        },
        "a class of ours of another kind": {"_target_": "src.callbacks.History", "run_dir": str(marker.parent)},
        "a partial": {"_target_": "os.system", "_partial_": True, "command": touch},
        "positional arguments": {"_target_": "os.system", "_args_": [touch]},
        "hydra's own": {"_target_": "hydra.utils.call", "config": {"_target_": "os.system", "command": touch}},
        "a reference": "${harm}",
        "a resolver that makes a node": "${oc.create:'{_target_: os.system, command: " + touch + "}'}",
        "the environment": "${oc.env:SEMSEG_SECRET}",
        "the environment in an address": url + "/${oc.env:SEMSEG_SECRET}",
        "the environment behind an escape": "\\${oc.env:SEMSEG_SECRET}",
        "a reference to hydra": "${hydra:runtime.cwd}",
        "shards at an address": {"_target_": "src.data.shards.source.shards", "_partial_": True, "root": f"{url}/set"},
        "weights of a hub": {"_target_": "timm.create_model", "model_name": "hf-hub:evil/net", "pretrained": True},
    }


PLACES = {
    "net": "model.net",
    "an argument of the net": "model.net.x",
    "backbone": "model.net.backbone",
    "name of the backbone": "model.net.backbone.name",
    "target of the net": "model.net._target_",
    "scales": "model.scales",
    "weights of outputs": "model.aux_weights",
    "classes": "model.net.num_classes",
    "inference": "inference",
    "window": "inference.window",
    "refinement": "inference.refine",
    "scales of inference": "inference.scales",
    "data": "data",
    "listing": "data.dataset",
    "root": "data.root",
    "root of the listing": "data.dataset.root",
    "argument of the listing": "data.dataset.seed",
    "mean": "data.mean",
    "transforms": "transforms",
    "further transforms": "transforms.extra",
    "sampler": "sampler",
    "loss": "loss",
    "auxiliary loss": "aux_loss",
    "optimizer": "optimizer.algorithm",
    "schedule": "schedule",
    "callback": "callbacks.harm",
    "known callback": "callbacks.history",
    "place of a callback": "callbacks.last.dirpath",
    "logger": "logger.harm",
    "plugins": "trainer.plugins",
    "strategy": "trainer.strategy",
    "folder of the trainer": "trainer.default_root_dir",
    "run folder": "run_dir",
    "seed": "seed",
    "norms": "norms",
    "hydra": "hydra.callbacks.harm",
    "hydra's folder": "hydra.run.dir",
    "variables set by hydra": "hydra.job.env_set",
    "an unknown key": "anything",
}


def _options(file: Path, work: Path) -> dict[str, list[str]]:
    """Options of each command."""
    resumed = file.parents[1]
    return {
        "predict": [f"ckpt={file}", f"source={work / 'in'}", f"out={work / 'p'}"],
        "autolabel": [f"ckpt={file}", f"source={work / 'in'}", f"out={work / 'a'}", "inference.scales=[1.0]"],
        "evaluate": [f"ckpt={file}", "worst_images=0", "trainer=cpu"],
        "submit": [f"ckpt={file}", f"out={work / 's.zip'}", "split=val"],
        "export": [f"ckpt={file}", "format=pt2", "size=[32,64]", f"out={work / 'e.pt2'}", "check_images=1"],
        "benchmark": [f"ckpt={file}", "size=[32,64]", "repeats=1", "warmup=0", f"out={work / 'b'}", "device=cpu"],
        "train resume=": [f"resume={resumed}"],
        "train init_from=": [*TINY, f"init_from={file}", f"hydra.run.dir={work / 'new'}"],
    }


@pytest.fixture
def attack(
    run_folder: Path,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[[str, str, str], None]:
    """Runs a command with a checkpoint that has a harmful node in a place, and looks for harm."""
    monkeypatch.setenv("SEMSEG_SECRET", SECRET)
    work, marker = tmp_path / "work", tmp_path / "harmed" / "marker"
    (work / "in").mkdir(parents=True)
    marker.parent.mkdir()
    cv2.imwrite(str(work / "in/a.png"), np.zeros((32, 64, 3), np.uint8))
    monkeypatch.chdir(work)

    def run(name: str, place: str, what: Any) -> None:
        folder = work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run_folder, folder)
        file = folder / "checkpoints/last.ckpt"
        node = _harmful(marker, server.url)[what] if isinstance(what, str) else what
        checkpoint = torch.load(file, weights_only=True)
        config = checkpoint[METADATA_KEY]["config"]
        if what == "a reference":
            config["harm"] = {"_target_": "os.system", "command": f"touch {marker}"}
        _put(config, PLACES.get(place, place), copy.deepcopy(node))
        torch.save(checkpoint, file)
        status: Any = 0
        try:
            call(name.split()[0], *_options(file, work)[name])
        except SystemExit as end:
            status = end.code
        out, err = capfd.readouterr()
        attempt = f"{name}: {what} as {place}"
        assert list(marker.parent.iterdir()) == [], f"{attempt}: it ran"
        assert server.calls == 0, f"{attempt}: it called out"
        assert SECRET not in out + err, f"{attempt}: it printed the secret"
        shown = [path for path in work.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
        assert shown == [], f"{attempt}: the secret is in {shown}"
        assert "Traceback" not in err and "this is a fault" not in err, f"{attempt}: {err}"
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == (status != 0), f"{attempt}: status {status}, {err}"

    return run


def _put(config: dict[str, Any], place: str, node: Any) -> None:
    *path, last = place.split(".")
    for key in path:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    config[last] = node


COMMANDS = list(_options(Path("a/b/c"), Path()))
ATTACKS = [
    (COMMANDS[number % len(COMMANDS)], place, what)
    for number, (what, place) in enumerate(itertools.product(_harmful(Path("x"), ""), PLACES))
]
TRAINING = [  # places that only a run that goes on reads
    ("train resume=", place, what)
    for place in list(PLACES)[18:]
    for what in ("a function that runs commands", "a module that ours imports", "a reference", "the environment")
]


def _some(what: str) -> list[tuple[str, str, str]]:
    """Each twelfth attack, of those with this node."""
    start = list(_harmful(Path("x"), "")).index(what) % 12
    return [each for each in ATTACKS[start::12] if each[2] == what]


@pytest.mark.parametrize("what", list(_harmful(Path("x"), "")))
def test_nothing_in_a_checkpoint_runs_or_calls_out(attack: Callable[..., None], what: str) -> None:
    """Each harmful node in one place, most through a command of their own; the slow test tries more."""
    attack(*_some(what)[0])


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_a_checkpoint_is_open(attack: Callable[..., None], place: str) -> None:
    """A third of the attacks; ``SEMSEG_ATTACKS=all`` makes it all of them, which takes a quarter of an hour."""
    more = [each for what in _harmful(Path("x"), "") for each in _some(what)[1:]]
    some = ATTACKS if os.environ.get("SEMSEG_ATTACKS") == "all" else dict.fromkeys([*ATTACKS[::3], *more])
    for name, where, what in [*some, *TRAINING]:
        if where == place:
            attack(name, place, what)


def test_what_was_reported_as_open_is_closed(attack: Callable[..., None]) -> None:
    """The holes that a search for such holes found once."""
    attack("predict", "an argument of the net", "a reference")
    attack("predict", "an argument of the net", "a module that ours imports")
    attack("evaluate", "listing", "a function that runs commands")
    attack("submit", "listing", "shards at an address")
    attack("export", "listing", "shards at an address")
    attack("train resume=", "loss", "a function that runs commands")
    attack("train resume=", "hydra", "a function that runs commands")
    attack("evaluate", "root of the listing", "the environment in an address")


@pytest.mark.parametrize("place", ["data", "inference", "inference.window", "inference.refine", "model.scales"])
@pytest.mark.parametrize("name", ["evaluate", "predict", pytest.param("train resume=", marks=pytest.mark.slow)])
def test_no_section_brings_another_file_of_options(
    attack: Callable[..., None], tmp_path: Path, name: str, place: str
) -> None:
    """Hydra would take a list of defaults in a section for files to compose, which may lie anywhere."""
    marker = tmp_path / "harmed/marker"
    harm = f"{{_target_: torch.utils.collect_env.run, command: touch {marker}}}"
    (tmp_path / "evil.yaml").write_text(f"# @package _global_\nhydra: {{callbacks: {{harm: {harm}}}}}\n")
    group = ROOT / "conf" / ("model/scales" if place == "model.scales" else place.replace(".", "/"))
    other = os.path.relpath(tmp_path / "evil", group)
    attack(name, f"{place}.defaults", [other, "_self_"])


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS[::3]) + len(TRAINING) >= 200
    assert {name for name, _, _ in ATTACKS[::3]} == set(COMMANDS)


def test_the_detectors_work(server: Server, tmp_path: Path) -> None:
    """A node that is called by a way that checks nothing leaves its mark."""
    from urllib.error import URLError
    from urllib.request import urlopen

    from hydra.utils import instantiate

    marker = tmp_path / "marker"
    instantiate(OmegaConf.create({"_target_": "torch.utils.collect_env.run", "command": f"touch {marker}"}))
    assert marker.exists()
    other = Server()
    with pytest.raises((URLError, OSError)):
        urlopen(other.url, timeout=5)
    assert other.calls == 1
    other.shutdown()
    other.server_close()
