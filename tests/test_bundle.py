"""A bundle is its checkpoint to the last bit, wherever a checkpoint is taken, and shows nothing of its run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import src
from src.build import from_config
from src.build.from_checkpoint import checkpoint_file, load_module, saved_config
from src.build.init_from import init_from
from src.checkpoints.bundle import FORMAT, identity, is_bundle, read_config
from src.checkpoints.io import METADATA_KEY
from src.checkpoints.load import load_checkpoint
from src.data.label_space import LabelSpace
from src.errors import UserError
from src.exporting.bundle_writer import write_bundle
from src.files.atomic import sha256, whole_folder
from src.files.untrusted import read_json
from src.schema.rules import _OF_A_BUNDLE, _OF_A_GRAPH, rule_faults
from tests.conftest import NET, ROOT, SMALL, call, composed, files_of_at_most, save_untrained

FILES = {"README.md", "SHA256SUMS", "config.json", "model.safetensors", "picture.png"}
TINY = [*SMALL, "data.size=[64,96]"]
WINDOWS = ["inference/window=sliding", "inference.window.size=[32,48]", "inference.window.overlap=0.5"]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose validation images are small."""
    return save_untrained(tmp_path_factory.mktemp("net") / "net.ckpt", *TINY)


@pytest.fixture(scope="module")
def folder(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle; to be read, not changed."""
    return write_bundle(net, tmp_path_factory.mktemp("bundle") / "net")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "in/a.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    return path


def _scores(ckpt: Path) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.inference_mode():
        return load_module(ckpt).scores(torch.randint(256, (1, 3, 50, 70), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("trained", "name"),
    [
        pytest.param(TINY, "net.semseg.zip", id="one scale"),
        pytest.param(
            [*TINY, "model/scales=hierarchical", "inference.flip=true"],
            "net",
            id="hierarchical",
            marks=pytest.mark.slow,
        ),
        pytest.param([*NET, "experiment=binary", "data.root=x"], "net", id="binary", marks=pytest.mark.slow),
        pytest.param([*TINY, *WINDOWS], "net.semseg.zip", id="windows", marks=pytest.mark.slow),
        pytest.param(
            [*TINY, "data.eval_long_edge=40", "data.channel_order=bgr"],
            "net",
            id="scored smaller",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_its_scores_are_the_checkpoints(tmp_path: Path, trained: list[str], name: str) -> None:
    space = LabelSpace(["rest", "thing"], [(0, 0, 0), (255, 0, 0)]) if "experiment=binary" in trained else None
    ckpt = save_untrained(tmp_path / "net.ckpt", *trained, space=space)
    out = write_bundle(ckpt, tmp_path / name)
    assert torch.equal(_scores(out), _scores(ckpt))
    assert saved_config(out) == saved_config(ckpt)
    first, second = (load_checkpoint(path) for path in (ckpt, out))
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for key, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][key])
        assert tensor.dtype == second["state_dict"][key].dtype
    space = {key: first[METADATA_KEY]["label_space"][key] for key in ("names", "colors")}
    assert second[METADATA_KEY]["label_space"] == {**space, "colors": [list(color) for color in space["colors"]]}


def test_it_holds_what_it_lists(net: Path, folder: Path, tmp_path: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False)
    assert checked.returncode == 0
    assert checked.stdout.count("OK") == len(FILES) - 1
    assert json.loads((folder / "config.json").read_text())["format"] == FORMAT
    assert cv2.imread(str(folder / "picture.png")).shape[1] > 64
    first, second = (write_bundle(net, tmp_path / name / "net.semseg.zip") for name in "ab")
    assert first.read_bytes() == second.read_bytes()  # the same model, the same file
    assert identity(first) == identity(folder) == sha256(folder / "SHA256SUMS")
    assert identity(net) == sha256(net)
    again = write_bundle(first, tmp_path / "net")  # of a bundle
    assert identity(again) == identity(first)


def test_predictions_are_byte_for_byte_the_checkpoints(net: Path, folder: Path, image: Path, tmp_path: Path) -> None:
    for ckpt, name in ((net, "first"), (folder, "second")):
        call("predict", f"ckpt={ckpt}", f"source={image}", f"out={tmp_path / name}", "device=cpu")
    kinds = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.png"))
    assert kinds
    for path in kinds:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes()


@pytest.mark.slow
def test_python_takes_it(net: Path, image: Path, tmp_path: Path) -> None:
    call("export", f"ckpt={net}", "format=bundle", f"out={tmp_path / 'a.semseg.zip'}", "picture=false")
    found = src.load(tmp_path / "a.semseg.zip", device="cpu").predict(image)
    assert np.array_equal(found.label, src.load(net, device="cpu").predict(image).label)


@pytest.mark.slow
def test_every_command_takes_it(
    net: Path, folder: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = write_bundle(net, tmp_path / "b.semseg.zip")
    found: dict[Path, Any] = {}
    for ckpt, name in ((net, "first"), (folder, "second"), (archive, "third")):
        call("evaluate", f"ckpt={ckpt}", "trainer=cpu", "worst_images=0", f"hydra.run.dir={name}")
        scores = json.loads((tmp_path / name / "scores_val.json").read_text())
        assert scores["protocol"]["checkpoint"]["sha256"] == identity(ckpt)
        found[ckpt] = {key: value for key, value in scores.items() if key != "protocol"}
    assert found[net] == found[folder] == found[archive]
    call("autolabel", f"ckpt={folder}", f"source={image.parent}", "out=labels", "inference.scales=[1.0]", "device=cpu")
    call("benchmark", f"ckpt={folder}", "size=[32,64]", "repeats=1", "warmup=0", "out=b", "device=cpu")
    call("export", f"ckpt={archive}", "format=pt2", "size=[32,64]", "check_images=1")
    assert (tmp_path / "b.pt2").is_file()
    small = ["trainer=cpu", "logger=none", "data.batch_size=2", "data.num_workers=0", "trainer.max_steps=1"]
    call("train", *TINY, *small, "transforms.crop_size=[32,64]", f"init_from={folder}", "hydra.run.dir=run")
    call("export", "ckpt=run", "format=bundle", "out=of_run")
    config = read_config(tmp_path / "of_run")
    assert config["start"] == {"weights": folder.name, "licence": "unknown"}
    assert "scores" in config
    for name in ("config.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "of_run" / name).read_text()


def test_a_run_starts_from_it(net: Path, folder: Path) -> None:
    cfg = composed("train", *TINY, "run_dir=runs/x")
    modules = [from_config.build_module(cfg, LabelSpace(**load_module(net).label_space.to_dict())) for _ in range(2)]
    said = [init_from(module, path) for module, path in zip(modules, (net, folder), strict=True)]
    assert said[0].replace(str(net), str(folder)) == said[1]
    first, second = (module.net.state_dict() for module in modules)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_cannot_be_resumed_or_converted(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command, *line in (
        ("train", f"resume={folder}"),
        ("convert", f"ckpt={folder}", "model=bisenetv2", f"out={tmp_path}/x.ckpt"),
    ):
        with pytest.raises(SystemExit):
            call(command, *line)
    err = capfd.readouterr().err
    assert "a bundle cannot be resumed" in err
    assert f"init_from={folder}" in err
    assert "is a checkpoint of this project already" in err


def test_options_of_another_format_are_refused(net: Path, capfd: pytest.CaptureFixture[str]) -> None:
    defaults = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/export.yaml"))
    assert isinstance(defaults, dict)
    others = {
        **{"size": [32, 64], "batch": 2, "output": "scores", "layout": "nhwc", "precision": "fp16"},
        **{"output_stride": 8, "min_agreement": 0.5, "check_images": 1, "licence": "mit", "picture": False},
    }
    for options, own, other in ((_OF_A_GRAPH, "onnx", "bundle"), (_OF_A_BUNDLE, "bundle", "pt2")):
        for name, default in options.items():
            assert defaults[name] == default
            values = {**defaults, name: others[name]}
            assert not list(rule_faults("export", {**values, "format": own}))
            (fault,) = rule_faults("export", {**values, "format": other})
            assert fault.path == (name,)
            assert f"not of format={other}" in str(fault)
    with pytest.raises(SystemExit):
        call("export", f"ckpt={net}", "format=bundle", "precision=fp16")
    err = capfd.readouterr().err.strip()
    assert err.startswith("error: precision=fp16: is an option of a file of one graph")
    assert "\n" not in err
    assert not list(net.parent.glob("*.zip"))


@pytest.mark.slow
def test_it_carries_the_inference_of_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ckpt = save_untrained(tmp_path / "net.ckpt", *TINY, "data.eval_long_edge=40", "model/scales=average")
    line = [f"ckpt={ckpt}", "format=bundle", "picture=false"]
    call("export", *line)
    assert saved_config(tmp_path / "net.semseg.zip") == saved_config(ckpt)
    call("export", *line, f"out={tmp_path}/b", "inference.flip=true", "model.scales.scales=[0.5,1.0]")
    found = saved_config(tmp_path / "b")
    assert found.inference.flip
    assert found.inference.long_side is None  # data.eval_long_edge says it
    assert list(found.model.scales.scales) == [0.5, 1.0]
    assert not torch.equal(_scores(tmp_path / "b"), _scores(ckpt))
    with pytest.raises(SystemExit):
        call("export", *line, f"out={tmp_path}/c", "model/scales=none")
    assert "was trained with" in capfd.readouterr().err
    assert not (tmp_path / "c").exists()


def test_only_bundles_are_replaced_and_those_whole(net: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    (out / "config.json").write_text("{}")  # even a damaged one is
    write_bundle(net, out)
    assert identity(out) == hashlib.sha256((out / "SHA256SUMS").read_bytes()).hexdigest()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for place in (out, tmp_path / "new", tmp_path / "new.semseg.zip"):
        with files_of_at_most(2**20), pytest.raises((OSError, UserError)):
            write_bundle(net, place)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "work").mkdir()
    (tmp_path / "work/notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(out)
    (out / "notes.txt").write_text("mine")
    for place, why in (
        (tmp_path / "work", "is no bundle"),
        (out, "notes.txt"),
        (out / "inner", "lies in a bundle"),
        (tmp_path / "link", "is no bundle"),
        (tmp_path / "net.zip", "another kind"),
        (net, "is an input"),
    ):
        with pytest.raises(UserError, match=why):
            write_bundle(net, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out", "work"]


@pytest.mark.parametrize("last", ["out", ".partial.out"])
def test_a_stop_right_after_a_rename_leaves_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    rename = Path.rename

    def stopped(path: Path, target: Path) -> None:
        rename(path, target)
        if path.name == last:
            raise KeyboardInterrupt

    with whole_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("first")
    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("second")
    assert (tmp_path / "out/a").read_text() == ("first" if last == "out" else "second")


def test_a_folder_that_was_moved_aside_comes_back(tmp_path: Path) -> None:
    """As a process leaves it that is killed between the two renames that put a new folder into place."""
    out = tmp_path / "out"
    with whole_folder(out) as partial:
        (partial / "a").write_text("first")
    out.rename(tmp_path / ".partial.before.out")
    with pytest.raises(RuntimeError), whole_folder(out) as partial:
        (partial / "a").write_text("second")
        raise RuntimeError
    assert (out / "a").read_text() == "first"
    with whole_folder(out) as partial:
        (partial / "b").write_text("second")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "b"]


@pytest.mark.slow
def test_a_root_that_was_left_out_is_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = LabelSpace(["rest", "thing"], [(0, 0, 0), (255, 0, 0)])
    ckpt = save_untrained(tmp_path / "net.ckpt", *NET, "experiment=binary", "data.root=/home/me/data", space=space)
    out = write_bundle(ckpt, tmp_path / "out")
    with pytest.raises(SystemExit):
        call("evaluate", f"ckpt={out}", "trainer=cpu", f"hydra.run.dir={tmp_path}/run")
    assert "data.root is not set; give it on the command line as data.root=..." in capfd.readouterr().err
    call("export", f"ckpt={out}", "format=pt2", "size=[32,64]", "check_images=1")
    assert "1 generated street," in capfd.readouterr().out


def test_it_shows_nothing_of_the_run(tmp_path: Path) -> None:
    ckpt = save_untrained(tmp_path / "net.ckpt", *TINY, "+data.root=/home/me/data")
    content = torch.load(ckpt, weights_only=True)
    content[METADATA_KEY]["config"]["data"]["list"] = ["~/mine", "C:\\mine", "a/b"]
    content[METADATA_KEY]["wandb_id"] = "abc123xyz"
    content[METADATA_KEY]["config"]["run_dir"] = "/home/me/runs/x"
    torch.save(content, ckpt)
    out = write_bundle(ckpt, tmp_path / "out", name="mine to give")
    text = (out / "config.json").read_text() + (out / "README.md").read_text()
    assert not [word for word in ("/home/me", "~/", "C:", "abc123xyz", "run_dir") if word in text]
    assert "# mine to give" in text
    saved = saved_config(out)
    assert OmegaConf.is_missing(saved.data, "root")
    assert saved.data.list[2] == "a/b"
    again = write_bundle(out, tmp_path / "again")
    assert not (again / "picture.png").exists()  # nothing says where the images are


def test_a_card_says_nothing_that_is_acted_on_or_opens_a_door(tmp_path: Path) -> None:
    ckpt = save_untrained(tmp_path / os.fsdecode(b"n\xff.ckpt"), *TINY, "data.name=a")
    content = torch.load(ckpt, weights_only=True)
    content[METADATA_KEY]["config"]["data"]["name"] = "a\n\n# mine <script>x</script> [b](c)"
    content[METADATA_KEY]["config"]["init_from"] = "https://h/d/net.ckpt?X-Signature=geheim#x"
    torch.save(content, ckpt)
    out = write_bundle(ckpt, tmp_path / "out")
    card = (out / "README.md").read_text()
    assert "The picture shows" in card
    assert not re.search(r"^# mine|<script>|[^\\]\[b|geheim", card.split("---\n", 2)[2], re.MULTILINE)
    assert read_config(out)["start"]["weights"] == "net.ckpt"
    content[METADATA_KEY]["config"]["init_from"] = "C:\\me\\net.ckpt"
    content[METADATA_KEY]["config"]["data"]["splits"] = {"val": []}
    torch.save(content, ckpt)
    image = tmp_path / "mine/a.png"
    image.parent.mkdir()
    cv2.imwrite(str(image), np.zeros((40, 60, 3), np.uint8))
    for source in (None, str(image)):
        again = write_bundle(ckpt, tmp_path / f"again{source is None}", source=source)
        assert read_config(again)["start"]["weights"] == "net.ckpt"
        assert str(tmp_path) not in (again / "README.md").read_text()


def test_its_card_has_the_scores_of_its_weights_alone(tmp_path: Path) -> None:
    run, golden = tmp_path / "run", ROOT / "tests/golden/run_of_b375178"
    (run / "checkpoints").mkdir(parents=True)
    space = LabelSpace(["a|b", "<b>c</b>"], [(0, 0, 0), (1, 2, 255)])
    ckpt = save_untrained(run / "checkpoints/best.ckpt", *TINY, "data.num_classes=2", space=space)
    scores = read_json(golden / "scores_test.json", dict[str, Any], remedy="")
    scores |= {"miou": 0.4321, "iou": {"a|b": 0.5, "<b>c</b>": None}, "interval_over_images": {"miou": [0.4, 0.5]}}
    stamp = {"data": "street", "images": 7, "checkpoint": {"path": "/home/me/best.ckpt", "sha256": sha256(ckpt)}}
    (run / "scores_test.json").write_text(json.dumps(scores | {"protocol": stamp}))
    other = {**stamp, "checkpoint": {"path": "x", "sha256": "0" * 64}}
    (run / "scores_val.json").write_text(json.dumps(scores | {"miou": 0.99, "protocol": other}))
    out = write_bundle(run, tmp_path / "out", licence="mit")
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["pipeline_tag"], front["library_name"]) == ("mit", "image-segmentation", "semseg")
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "street"
    assert result["metrics"][0] == {"type": "mean_iou", "name": "mIoU", "value": 0.4321}
    assert "43.21 % (95 % interval over images: 40.00 to 50.00)" in card
    assert "99.00" not in card
    assert "/home/me" not in card + (out / "config.json").read_text()
    assert "a\\|b" in card
    assert "<b>" not in card
    assert list(read_config(out)["scores"]) == ["test"]
    assert read_config(write_bundle(out, tmp_path / "copy"))["scores"] == read_config(out)["scores"]


def test_folders_are_told_apart(folder: Path, untrained: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_text('{"architectures": ["x"]}')
    shutil.copy(folder / "model.safetensors", hub)
    assert not is_bundle(hub)
    assert "net." in next(iter(load_checkpoint(hub)))  # plain weights, as a hub keeps other projects' ones
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(untrained, run / "checkpoints/last.ckpt")
    (run / "SHA256SUMS").write_text("")
    assert checkpoint_file(run) == run / "checkpoints/last.ckpt"
    assert checkpoint_file(folder) == folder
    assert not is_bundle(untrained)
    assert not is_bundle(tmp_path / "nothing")


@pytest.mark.parametrize("below", ["", "nets/a"])
def test_links_of_a_hubs_cache_are_followed(folder: Path, tmp_path: Path, below: str) -> None:
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/abc" / below
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(blobs / path.name)
    assert identity(snapshot) == identity(folder)


@pytest.mark.slow
def test_a_hubs_cache_of_links_is_one(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/abc"
    blobs = tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (snapshot / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert identity(snapshot) == identity(folder)
    assert torch.equal(_scores(snapshot), _scores(folder))


@pytest.mark.slow
def test_a_bundle_of_another_net_is_not_left_behind(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save: Callable[..., bytes] = src.exporting.bundle_writer.save

    def other(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
        name = next(name for name in tensors if name.endswith("classifier.weight"))
        return save({**tensors, name: tensors[name] * (1 + 1e-6)}, metadata)

    monkeypatch.setattr("src.exporting.bundle_writer.save", other)
    for name in ("net", "net.semseg.zip"):
        with pytest.raises(UserError, match="other scores than the checkpoint"):
            write_bundle(net, tmp_path / name)
    assert not list(tmp_path.iterdir())
