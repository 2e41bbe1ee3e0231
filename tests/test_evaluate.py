"""Scoring as a user calls it, against counts made another way: the Cityscapes scripts, and pixel by pixel."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from src.data.label_space import LabelSpace
from src.data.sets.camvid import camvid
from src.data.sets.cityscapes import CATEGORIES, TRAIN_ID_TO_RAW_ID, label_space
from src.reports import console
from src.training.module import SegmentationModule
from tests.conftest import NET, call, save_untrained

SURE = 230  # of 255


def _checkpoint(path: Path, space: LabelSpace, *overrides: str) -> Path:
    """An untrained net for the data that the overrides choose."""
    return save_untrained(path, *NET, *overrides, "data.num_workers=0", "trainer=cpu", space=space)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of the 19 classes of Cityscapes."""
    return _checkpoint(tmp_path_factory.mktemp("net") / "net.ckpt", label_space(), "data=cityscapes")


def _call(entry: str, *overrides: str, fails: bool = False) -> str:
    """Runs ``evaluate`` or ``submit``; returns what it printed, or the line of the error that it ended with."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            call(entry, *overrides)
        except SystemExit:
            assert fails and "Traceback" not in printed.getvalue(), printed.getvalue()
            return printed.getvalue()[printed.getvalue().index("error: ") :]
    assert not fails
    return printed.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _told() -> Iterator[None]:
    """The net predicts the class that the red channel of its image says, as surely as the blue one says."""

    def read(self: SegmentationModule, image: Tensor) -> tuple[Tensor, Tensor]:
        return image[:, 0] // 8, image[:, 2].contiguous()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "draw_scores", lambda *_: None)  # takes longer than all the rest
        patch.setattr(SegmentationModule, "label_and_confidence", read)
        patch.setattr(SegmentationModule, "predict_label", lambda self, image: read(self, image)[0])
        yield


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def _frames(root: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Label ids and predicted train ids in the layout of Cityscapes; the images say what is to be predicted."""
    for index, (truth, prediction) in enumerate(pairs):
        name = f"lindau_{index:06d}_000019"
        _write(root / f"leftImg8bit/val/lindau/{name}_leftImg8bit.png", _image(prediction))
        _write(root / f"gtFine/val/lindau/{name}_gtFine_labelIds.png", truth)


def _image(prediction: np.ndarray) -> np.ndarray:
    return np.stack([8 * prediction, 0 * prediction, np.full_like(prediction, SURE)], axis=-1)


def _blocks(generator: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """A map of large areas, as streets have."""
    return cv2.resize(generator.choice(values, (4, 6)), (96, 64), interpolation=cv2.INTER_NEAREST)


def _pairs(kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(7)
    ids, train_ids = np.arange(34, dtype=np.uint8), np.arange(19, dtype=np.uint8)
    if kind == "random":
        return [(generator.choice(ids, (64, 96)), generator.choice(train_ids, (64, 96))) for _ in range(3)]
    truths = [_blocks(generator, ids[ids != 31]) for _ in range(4)]  # no train in truth
    of_id = np.full(34, 0, np.uint8)
    of_id[list(TRAIN_ID_TO_RAW_ID)] = train_ids
    found = [np.roll(of_id[truth], (3, -5), axis=(0, 1)) for truth in truths]
    found[3][:] = 12 if kind == "structured" else 16  # rider everywhere; or train, which no truth has
    return list(zip(truths, found, strict=True))


def _official(folder: Path, root: Path) -> dict:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    arguments = copy.copy(official.args)
    arguments.evalInstLevelScore = arguments.JSONOutput = False
    arguments.quiet = True
    truth = sorted(root.glob("gtFine/val/*/*_labelIds.png"))
    arguments.predictionPath, arguments.predictionWalk = str(folder), None
    predictions = [official.getPrediction(arguments, str(path)) for path in truth]
    return official.evaluateImgLists(predictions, [str(path) for path in truth], arguments)


def _same(ours: float | None, theirs: float) -> bool:
    return math.isnan(theirs) if ours is None else abs(ours - theirs) < 1e-9


@pytest.mark.parametrize("kind", ["random", "structured", "unseen"])
def test_cityscapes_scripts_give_the_same_scores(kind: str, net: Path, tmp_path: Path) -> None:
    """On the files of ``src.submit``, which the scripts find by their names: class IoU, category IoU and means."""
    _frames(tmp_path / "data", _pairs(kind))
    own = [f"ckpt={net}", f"data.root={tmp_path}/data", "split=val"]
    _call("evaluate", *own, f"hydra.run.dir={tmp_path}/run", "boundary=false", "bootstrap=0")
    _call("submit", *own, "images=null", "size=null", f"out={tmp_path}/sent.zip", "device=cpu")
    ours = json.loads((tmp_path / "run/scores_val.json").read_text())
    theirs = _official(tmp_path / "sent", tmp_path / "data")
    assert all(_same(ours["iou"][name], theirs["classScores"][name]) for name in ours["classes"])
    assert all(_same(ours["category_iou"][name], theirs["categoryScores"][name]) for name in CATEGORIES)
    assert _same(ours["miou"], theirs["averageScoreClasses"])
    assert _same(ours["category_miou"], theirs["averageScoreCategories"])
    assert ("train" in ours["absent"]) == (kind == "structured")
    assert ours["iou"]["train"] == {"structured": None, "unseen": 0}.get(kind, ours["iou"]["train"])


def test_a_count_pixel_by_pixel_gives_the_same_scores_on_camvid(
    camvid_mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SegmentationModule, "label_and_confidence", lambda self, image: (image[:, 1] // 24, image[:, 2].contiguous())
    )
    space = camvid(root=camvid_mini, split="val").label_space
    ckpt = _checkpoint(tmp_path / "net.ckpt", space, "data=camvid", f"data.root={camvid_mini}")
    _call("evaluate", f"ckpt={ckpt}", f"hydra.run.dir={tmp_path}/run")
    ours = json.loads((tmp_path / "run/scores_val.json").read_text())
    pixels = []
    for path in sorted(camvid_mini.glob("val/*.png")):
        truth = np.asarray(Image.open(camvid_mini / "valannot" / path.name)).ravel().tolist()
        image = np.asarray(Image.open(path)).reshape(-1, 3).tolist()
        pixels += [(t, rgb[1] // 24, rgb[2]) for t, rgb in zip(truth, image, strict=True) if t != 11]
    hits, truths, predicted = ([0] * 11 for _ in range(3))
    for truth, found, _ in pixels:
        hits[truth] += truth == found
        truths[truth] += 1
        predicted[found] += 1
    iou = [h / (t + p - h) for h, t, p in zip(hits, truths, predicted, strict=True)]
    assert list(ours["iou"].values()) == pytest.approx(iou, abs=1e-9)
    assert ours["miou"] == pytest.approx(sum(iou) / 11, abs=1e-9)
    assert ours["pixel_accuracy"] == pytest.approx(sum(hits) / len(pixels), abs=1e-9)
    assert ours["mean_accuracy"] == pytest.approx(sum(h / t for h, t in zip(hits, truths, strict=True)) / 11, abs=1e-9)
    weighted = sum(i * t for i, t in zip(iou, truths, strict=True)) / len(pixels)
    assert ours["frequency_weighted_iou"] == pytest.approx(weighted, abs=1e-9)
    bins = [[] for _ in range(15)]
    for truth, found, sure in pixels:
        bins[min(sure // 17, 14)].append((truth == found, min((sure + 0.5) / 255, 1)))
    gaps = [abs(sum(hit - p for hit, p in each)) for each in bins]
    assert ours["calibration_error"] == pytest.approx(sum(gaps) / len(pixels), abs=1e-9)


@pytest.fixture(scope="module")
def two_runs(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a and b over eight images: b is right where a is wrong."""
    tmp_path = tmp_path_factory.mktemp("two")
    generator = np.random.default_rng(0)
    truths = [_blocks(generator, np.array([7, 8, 26, 0], np.uint8)) for _ in range(8)]
    of_id = np.zeros(34, np.uint8)
    of_id[[7, 8, 26]] = [0, 1, 13]
    worse = [np.where(generator.random(truth.shape) < 0.4, np.uint8(1), of_id[truth]) for truth in truths]
    for run, predictions in (("a", worse), ("b", [of_id[truth] for truth in truths])):
        _frames(tmp_path / run, list(zip(truths, predictions, strict=True)))
    for run, options in (("a", ["worst=2"]), ("b", ["data.eval_long_edge=96"])):
        places = [f"hydra.run.dir={tmp_path}/runs/{run}", f"data.root={tmp_path}/{run}"]
        _call("evaluate", f"ckpt={net}", *places, *options)
    return tmp_path / "runs"


def test_what_was_measured_is_saved_with_the_figures(two_runs: Path) -> None:
    scores = json.loads((two_runs / "b/scores_val.json").read_text())
    stamp = scores["protocol"]
    assert (stamp["padded_to_multiple_of"], stamp["output_stride"]) == (32, None)
    assert (stamp["data"], stamp["splits"], stamp["images"]) == ("cityscapes", ["val"], 8)
    assert stamp["sizes_scored"] == stamp["sizes_of_files"] == {"96x64": 8}
    assert stamp["resize"] == "images and labels to a longer side of 96"
    assert stamp["inference"]["scales"] == [1.0] and stamp["precision"] == "32-true" and stamp["device"] == "cpu"
    assert len(stamp["absent_classes"]) == 16 and len(stamp["checkpoint"]["sha256"]) == 64
    assert stamp["versions"]["torch"] == torch.__version__
    assert scores["miou"] == scores["boundary_miou"] == 1
    assert scores["interval_over_images"]["miou"] == [1, 1]
    assert scores["calibration_error"] == pytest.approx(1 - (SURE + 0.5) / 255)

    worse = json.loads((two_runs / "a/scores_val.json").read_text())
    low, high = worse["interval_over_images"]["miou"]
    assert low < worse["miou"] < high < 1 and worse["boundary_miou"] < 0.9
    with (two_runs / "a/per_image_val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["image"] for row in rows}) == 8
    roads = [row for row in rows if row["class"] == "road"]
    hits = sum(int(row["intersection"]) for row in roads)
    union = sum(int(row["predicted"]) + int(row["truth"]) for row in roads) - hits
    assert hits / union == pytest.approx(worse["iou"]["road"])

    pictures = sorted((two_runs / "a/worst/road").iterdir())
    lowest = sorted((float(row["iou"]), row["image"]) for row in roads)[:2]
    assert [path.name for path in pictures] == [
        f"{rank}_iou_{100 * iou:.1f}_{name}.png" for rank, (iou, name) in enumerate(lowest, start=1)
    ]
    assert cv2.imread(str(pictures[0])).shape[1] > 4 * 96
    assert sorted(path.name for path in (two_runs / "a/worst").iterdir()) == ["car", "road", "sidewalk"]
    assert not (two_runs / "b/worst").exists()


def test_two_runs_are_compared_on_the_same_images(two_runs: Path, tmp_path: Path) -> None:
    text = _call("evaluate", f"compare=[{two_runs}/a,{two_runs}/b]", f"hydra.run.dir={tmp_path}/out")
    assert "B is better" in text and "measured differently: resize" in text
    result = json.loads((tmp_path / "out/comparison.json").read_text())
    scores = [json.loads((two_runs / f"{run}/scores_val.json").read_text()) for run in "ab"]
    assert result["miou"] == [each["miou"] for each in scores]
    assert result["difference"] == pytest.approx(scores[1]["miou"] - scores[0]["miou"])
    assert 0 < result["interval"][0] < result["difference"] < result["interval"][1]
    assert result["p_value"] < 0.02 and result["images"] == 8
    assert result["classes"]["train"] == {"a": None, "b": None, "difference": None, "interval": [None, None]}
    same = _call("evaluate", f"compare=[{two_runs}/a,{two_runs}/a]", f"hydra.run.dir={tmp_path}/out")
    assert "p = 1: these images do not tell A from B" in same and "measured differently" not in same


def test_runs_that_cannot_be_compared_end_in_one_sentence(two_runs: Path, tmp_path: Path) -> None:
    two_runs = shutil.copytree(two_runs, tmp_path / "runs")
    runs = f"compare=[{two_runs}/a,{two_runs}/b]"
    assert "must be two run folders" in _call("evaluate", f"compare=[{two_runs}/a]", fails=True)
    assert "holds no per_image_<split>.csv" in _call("evaluate", f"compare=[{two_runs}/a,{two_runs}]", fails=True)
    index, scores = two_runs / "b/per_image_val.csv", two_runs / "b/scores_val.json"
    whole = index.read_text()
    index.write_text(whole.replace("lindau_000003", "lindau_000033"))  # the sums stay
    assert "'lindau_000003_000019' in one of them only" in _call("evaluate", runs, fails=True)
    index.write_text(whole[: len(whole) // 2].rsplit(",", 2)[0])
    assert "per_image_val.csv: is broken" in _call("evaluate", runs, fails=True)
    index.write_text(whole[: whole.rindex("lindau_000007")])
    assert "per_image_val.csv: does not add up" in _call("evaluate", runs, fails=True)
    index.write_text(whole)
    for path in (index, scores):
        path.write_text(path.read_text().replace("road", "street"))
    assert "19 classes" in (line := _call("evaluate", runs, fails=True)) and "'road'" in line
    index.rename(two_runs / "b/per_image_test.csv")
    assert "split=val is not in both runs" in _call("evaluate", runs, fails=True)


def test_the_crf_is_tuned_before_it_is_scored(net: Path, tmp_path: Path) -> None:
    """Window and refinement of a checkpoint can be swapped; the best setting goes into the stamp."""
    _frames(tmp_path / "data", _pairs("structured"))
    own = [f"ckpt={net}", f"data.root={tmp_path}/data", f"hydra.run.dir={tmp_path}/run", "search_images=2"]
    crf = ["inference/window=sliding", "inference/refine=crf", "inference.refine.iterations=1"]
    line = _call("evaluate", *own, *crf, "inference.refine.search={bilateral_weight: [3, 40]}")
    with (tmp_path / "run/refine_search.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["miou"]))
    assert {"3.0", "4.0", "40.0"} <= {row["bilateral_weight"] for row in rows}
    assert {row["images"] for row in rows} == {"2"}
    stamp = json.loads((tmp_path / "run/scores_val.json").read_text())["protocol"]["inference"]
    assert stamp["refine"]["bilateral_weight"] == float(best["bilateral_weight"]) and not stamp["refine"]["search"]
    assert stamp["window"]["size"] == [512, 512]
    assert f"inference.refine.bilateral_weight={best['bilateral_weight']}" in line


def test_options_that_cannot_be_end_in_one_sentence(net: Path, tmp_path: Path) -> None:
    own = [f"ckpt={net}", f"hydra.run.dir={tmp_path}/run"]
    assert "worst=-1 must be a whole number" in _call("evaluate", *own, "worst=-1", fails=True)
    crf = ["inference/refine=crf", "inference.refine.search={bilateral_weight: [3]}"]
    assert "search_images=0 must be" in _call("evaluate", *own, *crf, "search_images=0", fails=True)
    assert "bootstrap=many must be a whole number" in _call("evaluate", *own, "bootstrap=many", fails=True)
