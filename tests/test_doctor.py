"""The doctor as a user calls it: computer, each split, all splits together, and what it leaves for the next fit."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.doctor import audit, machine
from tests.conftest import ROOT, call

FOLDER = ["data=folder", "data.classes=[a,b]", "data.num_workers=0", "measure=false"]
Doctor = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    """Runs ``src.doctor`` with overrides in an empty folder; returns status, standard output and error lines."""

    def run(*overrides: str) -> tuple[int, str, str]:
        (tmp_path / "work").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "work")
        status = 0
        try:
            call("doctor", *overrides)
        except SystemExit as ending:
            status = ending.code or 0
        out, err = capsys.readouterr()
        return status, out, "\n".join(line for line in err.splitlines() if line.startswith("error: "))

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Own images in folders of splits: 4 for training, 2 for validation, 2 for the test, each with both classes."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for kind in ("images", "masks"):
            (tmp_path / "mine" / kind / split).mkdir(parents=True)
        for number in range(count):
            name = f"{split}/{split}{number}.png"
            Image.fromarray(noise.integers(0, 256, (40, 48, 3), np.uint8)).save(tmp_path / "mine/images" / name)
            mask = np.zeros((40, 48), np.uint8)
            mask[:20] = 1
            Image.fromarray(mask).save(tmp_path / "mine/masks" / name)
    return tmp_path / "mine"


def test_a_sound_set_on_a_sound_computer(ask: Doctor, data: Path) -> None:
    status, out, err = ask(*FOLDER, f"data.root={data}", "data.crop_size=[32,32]")
    assert (status, err) == (0, "")
    for word in ("system", "torch", "GPU", "memory", "disk", "folder / train", "folder / val", "folder / test"):
        assert word in out
    assert "problems: 1" not in out
    assert "image size  48x40: 4" in out
    assert out.count("problems: none") == 3  # of each split
    assert "problems between the splits: none" in out
    assert out.startswith("this computer\n")
    assert "problems of this computer: none" in out


def test_what_the_splits_show_only_together(ask: Doctor, data: Path) -> None:
    shutil.copy(data / "images/train/train1.png", data / "images/val/val0.png")
    for mask in (data / "masks/train").iterdir():
        Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    status, out, _ = ask(*FOLDER, f"data.root={data}")
    together = out.rpartition("folder, all splits")[2]
    assert status == 1
    assert "val/val0.png is a copy of" in together
    assert "train/train1.png (1 of 2 images of val are in train)" in together
    assert "'data.splits_files={train: train.txt, val: val.txt}'" in together
    assert "b: in val but never in train" in together
    assert "data.crop_size=[40,48]" in together


def test_findings_are_recalled_until_a_file_changes(ask: Doctor, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(*FOLDER, f"data.root={data}")[1]
    read, audits = audit.audit, []
    monkeypatch.setattr(audit, "audit", lambda *arguments: (audits.append(1), read(*arguments))[1])
    again = ask(*FOLDER, f"data.root={data}")[1]
    assert again[again.index("folder / train") :] == first[first.index("folder / train") :]
    assert audits == []
    ask(*FOLDER, f"data.root={data}", "fresh=true")
    assert len(audits) == 3
    Image.fromarray(np.full((40, 48), 9, np.uint8)).save(data / "masks/val/val1.png")
    status, out, _ = ask(*FOLDER, f"data.root={data}")
    assert (status, len(audits)) == (1, 4)
    assert "val1.png: label value 9" in out


def test_a_recipe_is_checked_as_it_would_train(ask: Doctor, data: Path) -> None:
    for mask in (data / "masks").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(mask)) * np.uint8(255)).save(mask)
    assert ask(*FOLDER, f"data.root={data}")[0] == 1
    status, out, _ = ask("experiment=binary", f"data.root={data}", "optimizer.lr=0.1", "measure=false")
    assert status == 0
    assert "foreground" in out


def test_a_sample_is_no_proof_that_a_class_is_absent(ask: Doctor, data: Path) -> None:
    for number in range(1, 4):
        Image.fromarray(np.zeros((40, 48), np.uint8)).save(data / f"masks/train/train{number}.png")
    mask = data / "masks/train/train0.png"
    mask.rename(data / "masks/train/train3.png")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    assert "never in train" not in ask(*FOLDER, f"data.root={data}", "limit=1")[1]


def test_labels_that_cannot_be_read_are_not_called_absent(ask: Doctor, data: Path) -> None:
    for mask in (data / "masks/train").iterdir():
        Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(mask)
    status, out, _ = ask(*FOLDER, f"data.root={data}")
    assert (status, "no sample has a label" in out) == (1, False)


def test_an_incomplete_release_and_where_the_rest_is_had(ask: Doctor, data: Path) -> None:
    release = "+data.release={images: {train: 9, val: 2}, archives: {all.zip: example.org}}"
    status, out, _ = ask(*FOLDER, f"data.root={data}", release)
    assert status == 0  # a part may be meant
    assert "- train holds 4 of 9 images" in out.rpartition("notes: ")[2]
    assert "val holds" not in out
    assert "\narchives of the complete data set\nall.zip: example.org\n" in out


def test_a_test_split_that_is_not_there_is_a_note(ask: Doctor, data: Path) -> None:
    shutil.rmtree(data / "images/test")
    status, out, _ = ask(*FOLDER, f"data.root={data}")
    assert status == 0
    assert "images/test: no images for split 'test'" in out
    assert "a run ends with the scores of val" in out
    shutil.rmtree(data / "images/val")
    assert ask(*FOLDER, f"data.root={data}")[0] == 1


def test_sizes_batches_and_crops_that_do_not_go_together(ask: Doctor, data: Path) -> None:
    for kind in ("images", "masks"):
        path = data / kind / "val/val0.png"
        Image.open(path).crop((0, 0, 32, 32)).save(path)
    options = ["data.eval_batch_size=2", "transforms.pad=false", "transforms.crop_size=[64,64]", "transforms.scale=[1]"]
    status, out, _ = ask(*FOLDER, f"data.root={data}", *options)
    assert status == 1
    assert "data.eval_batch_size=2 puts images of val together, but their sizes differ (32x32, 48x40)" in out
    assert "transforms.crop_size=[64, 64] at scale 1 needs 64x64 pixels but 4 of 4 images of train" in out
    assert ask(*FOLDER, f"data.root={data}", "data.eval_batch_size=2", "data.eval_long_edge=32")[0] == 0


def test_splits_that_the_sampler_adds_are_read_too(ask: Doctor, data: Path) -> None:
    status, out, _ = ask(*FOLDER, f"data.root={data}", "data.splits.test=[val]", "sampler.extra=[test]")
    assert status == 0
    assert "folder / test" in out


def test_a_computer_that_cannot_train_is_said_before_any_data(
    ask: Doctor, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = machine.machine_facts({"runs": Path()}, 1)
    monkeypatch.setattr("src.data.doctor.machine.machine_facts", lambda *_: facts._replace(shared=2**20))
    status, out, _ = ask("data=folder", "data.classes=[a,b]", f"data.root={data}", "data.num_workers=4")
    assert status == 1
    assert out.index("--shm-size=") < out.index("folder / train")


@pytest.mark.parametrize("option", ["data.crop_size=[64]", "data.crop_size=[0,64]", "data.batch_size=0", "limit=0"])
def test_impossible_options_end_in_one_line(ask: Doctor, option: str) -> None:
    status, _, error = ask("data=toy_streets", option)
    assert status == 1
    assert option.split("=")[0].split(".")[-1] in error


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf/data").glob("*.yaml")))
def test_every_data_set_can_be_asked_for(ask: Doctor, tmp_path: Path, name: str) -> None:
    """Without its files, a published set ends in one sentence that says where they are had or which option to set."""
    if name == "toy_streets":
        status, out, _ = ask(
            "data=toy_streets", "data.length={train: 4, val: 2, test: 2}", "data.size=[32,64]", "measure=false"
        )
        assert (status, out.count("toy_streets / "), "bicyclist" in out) == (0, 3, True)
        return
    status, _, error = ask(f"data={name}", f"data.root={tmp_path}/nowhere")
    assert status == 1
    assert error.startswith(f"error: {tmp_path}/nowhere")
    assert "data.root" in error


def test_a_fatal_error_follows_no_verdict_on_the_data(ask: Doctor, tmp_path: Path) -> None:
    status, out, error = ask("data=folder", f"data.root={tmp_path}/nowhere")
    assert (status, "problems: none" in out, "notes: none" in out) == (1, False, False)
    assert error.startswith("error: ")


def test_what_lies_beside_the_data_is_told(ask: Doctor, data: Path) -> None:
    for kind in ("images", "masks"):
        for split in ("train", "val", "test"):
            for path in (data / kind / split).iterdir():
                path.rename(data / kind / path.name)
            (data / kind / split).rmdir()
    shutil.copytree(data / "masks", data / "other")
    (data / "images/9.heic").write_bytes(b"x")
    out = ask(*FOLDER, f"data.root={data}", "data.fractions={train: 0.4, val: 0.3, test: 0.3}")[1]
    assert "images: 1 file is skipped (1 .heic)" in out
    assert (
        "other: holds masks for 8 images, too, and is not read; to use it instead of masks: data.mask_dir=other" in out
    )


@pytest.mark.slow
def test_the_proposed_training_runs_as_printed(ask: Doctor, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["data.classes=[a, b]", "data.num_workers=0", f"data.root={data}", "trainer=cpu"]
    status, out, error = ask(*given, "budget=40s")
    assert (status, error) == (0, "")
    assert "it cannot be timed" not in out, out[-900:]
    assert "measured here, budget 40s: " in out
    words = shlex.split(out.rstrip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "src.train"]
    assert {*given, "data=folder", "data.crop_size=[32,32]", "data.batch_size=4", "logger=none", "budget=40s"} <= set(
        words
    )
    call("train", *words[3:])
    said = capsys.readouterr().out
    assert "budget 40s: " in said
    assert "mean IoU" in said


def test_nothing_is_proposed_for_data_that_need_mending(ask: Doctor, data: Path) -> None:
    Image.fromarray(np.full((40, 48), 9, np.uint8)).save(data / "masks/val/val1.png")
    out = ask(*FOLDER, f"data.root={data}")[1]
    assert "python -m src.train" not in out
    assert out.endswith("fix the problems above, and the doctor proposes a training\n")
    assert "budget" not in ask(*FOLDER, f"data.root={data}", "data.splits.val=[train]", "trainer.max_epochs=2")[1]
