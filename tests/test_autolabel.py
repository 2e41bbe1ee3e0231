"""Labels made by a net: written with their confidence, resumed, read back under a threshold, counted."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from src.build import from_checkpoint, from_config
from src.cli.overrides import quoted
from src.cli.prepare import autolabel as prepare_autolabel
from src.data.decoding import read_image
from src.data.folder.pseudo_labels import THRESHOLDS, KeptLabels
from src.data.folder.source import folder
from src.data.sets.toy_streets import ToyStreets
from src.errors import UserError
from src.inference import top_class
from src.prediction import label_folder
from src.runtime.environment import environment
from tests.conftest import ROOT, SMALL, call, composed, save_untrained

Labels = Callable[..., str]
CLASSES = list(ToyStreets.label_space.names)
NAMES = ("a", "b", "deep/c")


def _images(pool: Path) -> Path:
    scenes = ToyStreets(split="train", length=len(NAMES), height=48, width=80)
    for index, name in enumerate(NAMES):
        path = pool / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), scenes.read(index)[0][..., ::-1])
    return pool


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A folder of three images without labels."""
    return _images(tmp_path / "pool")


@pytest.fixture(scope="module")
def _labelled_once(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pool = _images(tmp_path_factory.mktemp("labelled") / "pool")
    given = [f"ckpt={untrained}", f"source={pool}/images", f"out={pool}/masks", "device=cpu", "inference=single"]
    call("autolabel", *given)
    return pool


@pytest.fixture
def labelled(_labelled_once: Path, tmp_path: Path) -> Path:
    """A pool with its labels, for those who read them."""
    return Path(shutil.copytree(_labelled_once, tmp_path / "labelled"))


@pytest.fixture
def label(untrained: Path, pool: Path, capsys: pytest.CaptureFixture[str]) -> Labels:
    """Runs the command on the pool; returns what it printed, or the line of the error that it ended with."""

    def run(*overrides: str, fails: bool = False) -> str:
        given = [f"ckpt={untrained}", f"source={pool}/images", f"out={pool}/masks", "device=cpu", *overrides]
        capsys.readouterr()
        try:
            call("autolabel", *given)
        except SystemExit as ending:
            assert ending.code == 1
            printed = capsys.readouterr()
            assert fails, printed.err
            assert "Traceback" not in printed.err
            return printed.out + printed.err[printed.err.index("error: ") :]
        assert not fails
        return capsys.readouterr().out

    return run


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _maps(pool: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    return _read(pool / f"masks/{name}.png"), _read(pool / f"masks/{name}_prob.png")


def test_labels_are_the_most_probable_classes_over_scales_without_a_threshold(
    label: Labels, pool: Path, untrained: Path
) -> None:
    assert "3 of 3 images labelled, 0 were before" in label()
    inference = composed("train", *SMALL, "inference=multiscale", "run_dir=x").inference
    module = from_checkpoint.load_module(untrained, inference=inference)
    for name in NAMES:
        image = torch.from_numpy(read_image(pool / f"images/{name}.png")).permute(2, 0, 1)[None]
        with torch.no_grad():
            top, classes = module.scores(image).double().softmax(1).max(1)
        stored, confidence = _maps(pool, name)
        assert stored.dtype == confidence.dtype == np.uint8
        assert np.array_equal(stored, classes[0].numpy())
        assert np.abs(confidence - 255 * top[0].numpy() + 0.5).max() < 0.5 + 1e-3  # floor(255 p)
        assert stored.max() < len(CLASSES)
    note = json.loads((pool / "masks/autolabel.json").read_text())
    assert note["made_with"]["inference"]["scales"] == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert note["ckpt"] == str(untrained)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_the_threshold_is_applied_on_loading(labelled: Path, threshold: float) -> None:
    every = {"root": labelled, "split": "train", "fractions": {"train": 1.0}}
    source, plain = folder(**every, min_confidence=threshold), folder(**every)
    assert list(source.label_space.names) == CLASSES
    assert source.label_space.colors == ToyStreets.label_space.colors
    assert [source.name(index) for index in range(len(source))] == list(NAMES)
    assert not source.unmatched
    for index, name in enumerate(NAMES):
        stored, confidence = _maps(labelled, name)
        assert np.array_equal(plain.read(index)[1], stored)
        assert np.array_equal(source.read(index)[1], np.where(confidence / 255 < threshold, 255, stored))


def test_the_table_is_what_thresholds_leave(label: Labels, pool: Path) -> None:
    printed = label("inference=single")
    stored, confidence = (np.concatenate([_maps(pool, name)[k].ravel() for name in NAMES]) for k in (0, 1))
    with (pool / "masks/survival.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == CLASSES
    for class_id, row in enumerate(rows):
        own = confidence[stored == class_id]
        assert int(row["pixels"]) == own.size
        for threshold in THRESHOLDS:
            kept = row[f"{threshold:.2f}"]
            assert (
                kept == "" if not own.size else float(kept) == pytest.approx(np.mean(own >= 255 * threshold), abs=1e-6)
            )
    last = next(line for line in printed.splitlines() if "all classes" in line)
    assert last.split()[2:] == ["100.00", *(f"{100 * np.mean(confidence >= 255 * T):.1f}" for T in THRESHOLDS)]


def test_counts_do_not_depend_on_how_pixels_come() -> None:
    generator = np.random.default_rng(0)
    label, confidence = generator.integers(0, 7, (2, 40, 30)).astype(np.uint8), generator.integers(0, 256, (2, 40, 30))
    names = [*"abcdef", "=g", 'h, "i"']
    one, two = KeptLabels(names), KeptLabels(names)
    one.add(label, confidence.astype(np.uint8))
    for each in zip(label, confidence.astype(np.uint8), strict=True):
        two.add(*each)
    assert np.array_equal(one.counts, two.counts)
    assert one.counts.sum() == label.size
    assert np.isnan(one.shares()[7]).all()
    assert list(csv.reader(io.StringIO(one.csv())))[8][0] == 'h, "i"'
    assert list(csv.reader(io.StringIO(one.csv())))[7][0] == "'=g"  # no formula


def test_the_most_probable_class_of_any_scores() -> None:
    scores = torch.randn(2, 5, 9, 8) * torch.logspace(-3, 3, 8)
    probs, classes = scores.softmax(1).max(1)
    label, confidence = top_class(scores.clone())
    assert torch.equal(label, classes.to(torch.uint8))
    assert (confidence - (255 * probs).floor()).abs().max() <= 1  # rounding beside a whole number
    assert (confidence == (255 * probs).floor()).double().mean() > 0.95
    assert int(top_class(torch.zeros(1, 1, 1, 1))[1]) == 255
    with pytest.raises(UserError, match="not finite"):
        top_class(torch.full((1, 2, 1, 1), float("nan")))


def test_a_stopped_run_leaves_whole_files_and_goes_on(label: Labels, pool: Path, monkeypatch) -> None:
    label("inference=single")
    whole = {path: path.read_bytes() for path in pool.glob("masks/**/*.png")}
    table = (pool / "masks/survival.csv").read_bytes()
    for path in whole:
        path.unlink()
    calls = []

    def full_disk(path: Path, image: np.ndarray) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        original(path, image)

    original = label_folder.save_png
    with monkeypatch.context() as patch:
        patch.setattr(label_folder, "save_png", full_disk)
        line = label("inference=single", fails=True)
    assert "No space left" in line
    assert "again" in line
    left = list(pool.glob("masks/**/*.png"))
    assert len(left) == 3
    assert all(path.read_bytes() == whole[path] for path in left)
    cv2.imwrite(str(pool / "masks/a_prob.png"), np.zeros((4, 4), np.uint8))  # a pair that does not fit is made anew
    (pool / "masks/deep/c.png").write_bytes(whole[pool / "masks/deep/c.png"][:50])
    assert " 0 were before" in label("inference=single")
    assert {path: path.read_bytes() for path in pool.glob("masks/**/*.png")} == whole
    assert "0 of 3 images labelled, 3 were before" in label("inference=single")
    assert (pool / "masks/survival.csv").read_bytes() == table


def test_a_broken_image_is_left_out_and_named(label: Labels, pool: Path) -> None:
    (pool / "images/broken.png").write_bytes(b"not a picture")
    cv2.imwrite(str(pool / "images/tiny.png"), np.zeros((20, 20, 3), np.uint8))
    printed = label("inference=single", "inference.multiple=1", fails=True)
    assert "3 of 5 images labelled" in printed
    for word in ("2 files were left out", "broken.png", "tiny.png"):
        assert word in printed
    assert {path.stem for path in pool.glob("masks/*.png")} == {"a", "a_prob", "b", "b_prob"}


def test_ids_in_the_files_are_those_asked_for(label: Labels, pool: Path) -> None:
    values = [10 * class_id + 7 for class_id in range(len(CLASSES))]
    label("inference=single", f"ids={values}")
    stored, _ = _maps(pool, "a")
    assert set(np.unique(stored)) <= set(values)
    assert not (pool / "masks/classes.txt").exists()
    assert "3 were before" in label("inference=single", f"ids={values}")
    given = dict(zip(values, range(len(CLASSES)), strict=True))
    again = folder(root=pool, split="train", classes=CLASSES, file_values=given, fractions={"train": 1.0})
    assert np.array_equal(again.read(0)[1], (stored - 7) // 10)
    for ids in ("cityscapes", [3] * len(CLASSES)):
        assert "11 different values" in label(f"ids={ids}", fails=True)


def test_a_net_with_scales_of_its_own_gets_no_others(tmp_path: Path, untrained: Path) -> None:
    wrapped = save_untrained(tmp_path / "a.ckpt", *SMALL, "model/scales=average")
    assert prepare_autolabel([f"ckpt={wrapped}"])[1] == [quoted("ckpt", wrapped)]
    assert prepare_autolabel(["inference=single", f"ckpt={wrapped}"])[1] == [
        "inference=single",
        quoted("ckpt", wrapped),
    ]
    several = [item.partition("=")[0] for item in prepare_autolabel([f"ckpt={untrained}"])[1]]
    assert several == ["++inference.scales", "++inference.flip", "ckpt"]


def test_two_pools_are_mixed(labelled: Path, tmp_path: Path) -> None:
    scenes, mine = ToyStreets(split="val", length=8, height=48, width=80), tmp_path / "mine"
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (mine / kind / split).mkdir(parents=True)
    for index in range(8):
        image, mask = scenes.read(index)
        for split in ("train", "val"):
            cv2.imwrite(str(mine / f"images/{split}/{index}.png"), image)
            cv2.imwrite(str(mine / f"masks/{split}/{index}.png"), mask)
    (mine / "classes.txt").write_text("\n".join(CLASSES))
    data = ["data=folder", f"data.root={mine}", f"data.autolabelled={{auto: {labelled}}}", "data.min_confidence=0.5"]
    given = [item for item in SMALL if "length" not in item] + data
    more = ["sampler.extra=[auto]", "transforms.crop_size=[32,32]", "data.batch_size=8", "data.num_workers=0"]
    module = from_config.build_datamodule(composed("train", *given, *more, "run_dir=runs/x"))
    assert (
        sorted(name.startswith("auto/") for name in next(iter(module.train_dataloader()))["name"]) == [0] * 4 + [1] * 4
    )
    assert [name for name in map(module.val_dataset.source.name, range(8)) if "auto" in name] == []
    (labelled / "masks/a_prob.png").unlink()
    with pytest.raises(UserError, match=r"a\.png: 1 of 3 masks have no map of confidence.*a_prob\.png.*src\.autolabel"):
        module._make_source(split="auto")


class TestMistakes:
    """Each ends in one sentence."""

    @pytest.mark.parametrize("out", ["images", "images/below", "."])
    def test_out_among_the_images(self, label: Labels, pool: Path, out: str) -> None:
        before = sorted(pool.rglob("*"))
        line = label(f"out={pool}/{out}", fails=True)
        assert "out=" in line
        assert "apart" in line
        assert sorted(pool.rglob("*")) == before

    def test_labels_of_another_origin_in_out(self, label: Labels, pool: Path) -> None:
        (pool / "masks").mkdir()
        cv2.imwrite(str(pool / "masks/a.png"), np.zeros((48, 80), np.uint8))
        assert "did not write" in label(fails=True)
        assert not _read(pool / "masks/a.png").any()

    def test_labels_of_another_teacher_in_out(self, label: Labels, pool: Path, tmp_path: Path) -> None:
        label("inference=single")
        before = (pool / "masks/a.png").read_bytes()
        assert "another inference" in label("inference=single", "inference.scales=[0.75]", fails=True)
        other = save_untrained(tmp_path / "other.ckpt", *SMALL, "data.mean=[0.1,0.1,0.1]", "model.net.dropout=0.3")
        assert "another ckpt" in label("inference=single", f"ckpt={other}", fails=True)
        assert (pool / "masks/a.png").read_bytes() == before

    def test_labels_of_other_images_in_out(self, label: Labels, pool: Path, tmp_path: Path) -> None:
        """Names alone do not tell images apart."""
        label("inference=single")
        before = (pool / "masks/a.png").read_bytes()
        (tmp_path / "more").mkdir()
        cv2.imwrite(str(tmp_path / "more/a.png"), np.zeros((48, 80, 3), np.uint8))
        assert "another source" in label("inference=single", f"source={tmp_path}/more", fails=True)
        assert (pool / "masks/a.png").read_bytes() == before

    def test_values_that_are_no_classes_as_a_pool(self, label: Labels, pool: Path) -> None:
        label("inference=single", f"ids={list(range(1, len(CLASSES) + 1))}")
        with pytest.raises(UserError, match=r"ids=\[1, 2.*ids=train"):
            folder(root=pool, split="auto", classes=CLASSES, autolabelled={"auto": pool})

    @pytest.mark.parametrize("given", ["ids=null", "ids={0: 1}", "source=", "out=null"])
    def test_options_that_say_nothing(self, label: Labels, given: str) -> None:
        assert f"error: {given.split('=')[0]}=" in label(given, fails=True)

    def test_an_image_that_is_called_like_a_map(self, label: Labels, pool: Path) -> None:
        cv2.imwrite(str(pool / "images/a_prob.png"), np.zeros((48, 80, 3), np.uint8))
        assert "rename" in label(fails=True)

    def test_no_image(self, label: Labels, tmp_path: Path) -> None:
        assert "no image found" in label(f"source={tmp_path}/nowhere", fails=True)

    @pytest.mark.parametrize("threshold", [0, -0.1, 1.01])
    def test_impossible_thresholds(self, labelled: Path, threshold: float) -> None:
        with pytest.raises(UserError, match=r"data\.min_confidence=.* must be a number above 0, at most 1"):
            folder(root=labelled, split="train", fractions={"train": 1.0}, min_confidence=threshold)

    def test_maps_that_are_not_there_or_do_not_fit(self, labelled: Path) -> None:
        read = {"root": labelled, "split": "train", "fractions": {"train": 1.0}, "min_confidence": 0.9}
        cv2.imwrite(str(labelled / "masks/b_prob.png"), np.zeros((4, 5), np.uint8))
        with pytest.raises(UserError, match=r"b_prob\.png: map of confidence is 5x4 but its label is 80x48"):
            folder(**read).read(1)
        (labelled / "masks/b_prob.png").unlink()
        with pytest.raises(UserError, match=r"b\.png: 1 of 3 masks have no map of confidence"):
            folder(**read)
        for path in labelled.glob("masks/**/*_prob.png"):
            path.unlink()
        with pytest.raises(UserError, match="3 of 3 masks have no map"):
            folder(**read)
        assert len(folder(**(read | {"min_confidence": None}))) == 3

    def test_a_pool_that_is_not_labelled(self, pool: Path) -> None:
        (pool / "masks").mkdir()
        with pytest.raises(UserError, match=r"3 of 3 images have no label \(a, b, deep/c\).*src\.autolabel"):
            folder(root=pool, split="auto", classes=CLASSES, autolabelled={"auto": pool})
        with pytest.raises(UserError, match=r"data\.autolabelled\.auto"):
            folder(root=pool, split="auto", classes=CLASSES, autolabelled={"auto": pool / "nowhere"})
        for given in (str(pool), [str(pool)], {"auto": None}):
            with pytest.raises(UserError, match=r"data\.autolabelled=.*must map splits to folders"):
                folder(root=pool, split="auto", classes=CLASSES, autolabelled=given)


def test_images_and_masks_may_end_like_maps(pool: Path) -> None:
    for folder_name, channels in (("images", 3), ("masks", 1)):
        for name in ("x", "x_prob"):
            (pool / "own" / folder_name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(pool / f"own/{folder_name}/{name}.png"), np.zeros((8, 8, channels), np.uint8))
    source = folder(root=pool / "own", split="train", classes=["a", "b"], fractions={"train": 1.0})
    assert [(pair.name, pair.confidence) for pair in source.pairs] == [("x", None), ("x_prob", None)]


def test_the_table_of_the_demo_takes_the_place_of_the_former_one(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("autolabel_demo", ROOT / "scripts/autolabel_demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    page = tmp_path / "results.md"
    page.write_text("# Results\n\nIntroduction.\n\n## Another\n\nKept.\n")
    for miou in (0.25, 0.5):
        scores = {name: {"miou": miou, "pixel_accuracy": 0.75} for name in demo.RUNS}
        seed = {"images": {"train": 3, "rest": 6}, "labels": {"kept": 0.5, "right": 0.6, "right_of_kept": 0.7}}
        options = SimpleNamespace(steps=5, min_confidence=0.5)
        demo.publish(demo.section([{**seed, "scores": scores}] * 3, options, environment()), page)
    text = page.read_text()
    assert text.count(demo.HEADING) == text.count("## Another") == text.count("Kept.") == 1
    assert "| student | 3 true, 6 auto | 50.0 ± 0.0 | 50.0, 50.0, 50.0 | 75.0 ± 0.0 |" in text
    assert "25.0" not in text
    page.write_text(text.replace("## Another\n\nKept.\n", "") + "\n## After\n")
    demo.publish(demo.HEADING + "\n\nnew\n", page)
    assert page.read_text().endswith(demo.HEADING + "\n\nnew\n\n## After\n")
