"""scripts/prepare.py on tiny downloads, whole and broken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image
from scipy.io import savemat

from src.data.sets.registry import archives, count_finding
from src.errors import UserError
from tests.conftest import ROOT

PUBLISHED = sorted({p.stem for p in (ROOT / "conf/data").glob("*.yaml")} - {"folder", "shards", "toy_streets"})


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "scripts" / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Exit status and output of ``prepare NAME data.root=ROOT ...``."""

    def call(name: str, root: Path, *overrides: str) -> tuple[int, str]:
        config, given = script._named([name, f"data.root={root}", *overrides])
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose(config, overrides=given)
        status = 0
        try:
            script.prepare(cfg)
        except SystemExit as stop:
            status = stop.code
        return status, capsys.readouterr().out

    return call


def write_10k(root: Path, train: list[str], test: list[str], value: int = 1) -> None:
    for folder in ("images", "annotations", "imageLists"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, stems in (("train", train), ("test", test)):
        (root / f"imageLists/{split}.txt").write_text("\n".join(stems))
        for stem in stems:
            Image.new("RGB", (2, 2), "red").save(root / f"images/{stem}.jpg")
            savemat(root / f"annotations/{stem}.mat", {"S": np.array([[value, 2], [0, 182]], np.uint8)})


def test_a_complete_download_is_ready(check: Callable, tmp_path: Path) -> None:
    write_10k(tmp_path, ["a", "b"], ["c"])
    status, out = check("coco_stuff_10k", tmp_path, "data.release.images={train: 2, test: 1}")
    assert status == 0
    assert out.splitlines()[0] == f"coco_stuff_10k in {tmp_path}"
    assert [line.split() for line in out.splitlines()[1:]] == [["train", "complete"], ["test", "complete"]]
    assert sorted(path.name for path in (tmp_path / "annotations_png").iterdir()) == ["a.png", "b.png", "c.png"]


def test_too_few_images_are_counted_and_the_archive_is_named(check: Callable, tmp_path: Path) -> None:
    write_10k(tmp_path, ["a", "b"], ["c"])
    status, out = check("coco_stuff_10k", tmp_path)
    assert status == 1
    assert "train holds 2 of 9000 images; unless a part of them is meant, unpack its archives completely" in out
    assert "test holds 1 of 1000 images" in out
    assert "- cocostuff-10k-v1.1.zip: calvin.inf.ed.ac.uk" in out


def test_every_split_is_looked_at_although_one_is_broken(check: Callable, tmp_path: Path) -> None:
    write_10k(tmp_path, ["a"], ["c"])
    (tmp_path / "annotations/a.mat").unlink()
    status, out = check("coco_stuff_10k", tmp_path, "data.release.images={train: 1, test: 1}")
    assert status == 1
    assert "a.mat: label not found (1 of 1 are missing); unpack cocostuff-10k-v1.1.zip" in out
    assert "\ntest   complete" in out


def test_wrong_values_and_sizes_are_found(check: Callable, tmp_path: Path) -> None:
    write_10k(tmp_path, ["a", "b"], ["c"], value=12)
    Image.new("RGB", (3, 2), "red").save(tmp_path / "images/b.jpg")
    status, out = check("coco_stuff_10k", tmp_path, "data.release.images={train: 2, test: 1}")
    assert status == 1
    assert "a.png: label value 12 " in out
    assert "b.png: label is 2x2 but its image" in out


def test_a_split_that_no_run_needs_may_be_absent(check: Callable, tmp_path: Path) -> None:
    base = tmp_path / "ADEChallengeData2016"
    for folder in ("training", "validation"):
        for kind, name, mode in (("images", "x.jpg", "RGB"), ("annotations", "x.png", "L")):
            (base / kind / folder).mkdir(parents=True)
            Image.new(mode, (2, 2), "red" if mode == "RGB" else 1).save(base / kind / folder / name)
    counts = "data.release.images={train: 1, val: 1, test: 3352}"
    status, out = check("ade20k", tmp_path, counts)
    assert (status, "\ntest   not there, and not needed" in out) == (0, True)
    status, out = check("ade20k", tmp_path, counts, "data.splits.test=[test]")
    assert status == 1
    assert "release_test.zip" in out


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_set_says_where_it_is_had(name: str, check: Callable, tmp_path: Path) -> None:
    status, out = check(name, tmp_path)
    assert status == 1
    assert " not found; " in out
    assert " complete\n" not in out
    assert "\n- " in out.split("archives:")[1]


def test_names_are_asked_for(script: ModuleType) -> None:
    with pytest.raises(UserError, match=r"name a data set: .* NAME .* ade20k, .*coco_stuff.* pascal_context60, voc"):
        script._named([])
    assert script._named(["data=voc", "limit=3"]) == ("prepare", ["data=voc", "limit=3"])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("prepare", overrides=["data=toy_streets"])
    with pytest.raises(UserError, match=r"data=toy_streets is not a published download; use one of ade20k"):
        script.prepare(cfg)


@pytest.mark.slow
def test_the_command_names_a_misspelt_option(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/prepare.py"), "mapillary", "data.rot=x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data.rot: there is no such option. Did you mean 'data.root'?")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_counts_are_judged_only_where_they_are_known() -> None:
    release = {"images": {"train": 10}, "archives": {"a.zip": "example.org, into data.root"}}
    assert count_finding(release, "train", 10) is None
    assert count_finding(release, "val", 3) is None
    assert count_finding(None, "train", 3) is None
    assert count_finding(release, "train", 11).startswith("train holds 11 images where the published set has 10;")
    several = {"images": {"train": [10, 8]}}
    assert [count_finding(several, "train", count) for count in (8, 10)] == [None, None]
    assert count_finding(several, "train", 9).startswith("train holds 9 of 10 or 8 images;")
    assert archives(release) == ["a.zip: example.org, into data.root"]
    assert archives(None) == []
