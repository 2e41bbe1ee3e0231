"""What is scored is what is applied: label files of ``predict`` beside the matrix of ``evaluate``, option by option."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from src.build import from_checkpoint
from src.cli.scored_size import difference
from src.commands import autolabel, benchmark, evaluate, predict, submit
from src.data.decoding import read_image
from src.data.label_space import LabelSpace
from src.data.sets import cityscapes
from src.data.sets.toy_streets import ToyStreets
from src.inference import Inference
from src.reports import console
from tests import conftest
from tests.conftest import call, save_untrained

SPACE = ToyStreets.label_space
CLASSES = len(SPACE.names)
NET = [*conftest.NET, "trainer=cpu", "data.num_workers=0"]
HEIGHT, WIDTH = 48, 80
EDGE = 53  # two thirds of the width


def _scenes(root: Path, space: LabelSpace) -> Path:
    """Two street images and labels as a data set of one's own, all in ``val``."""
    scenes = ToyStreets(split="train", length=2, height=HEIGHT, width=WIDTH)
    for index in range(2):
        image, label = scenes.read(index)
        label = np.where(label == 255, label, np.minimum(label, space.num_classes - 1))
        for folder, array in (("images", image[..., ::-1]), ("masks", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / f"{index}.png"), array)
    lines = (f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(space.names, space.colors, strict=True))
    (root / "classes.txt").write_text("".join(lines))
    (root / "val.txt").write_text("0\n1\n")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _scenes(tmp_path_factory.mktemp("data"), SPACE)


@pytest.fixture(scope="module")
def net(data: Path) -> Callable[..., Path]:
    """Checkpoint of a net that was trained with some options, on ``data``."""

    def save(*overrides: str) -> Path:
        own = ["data=folder", f"data.root={data}", "data.splits_files={val: val.txt}", *overrides]
        return save_untrained(data / "net.ckpt", *NET, *own, space=SPACE)

    return save


def _call(entry: ModuleType, *overrides: str) -> str:
    """Runs an entry point as the command line does; returns what it printed."""
    name, printed = entry.__name__.rsplit(".", 1)[-1], io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(console, "draw_scores", lambda *_: None)  # takes longer than all the rest
        call(name, *overrides)
    return printed.getvalue()


def _matrix_of_scores(ckpt: Path, out: Path, *overrides: str) -> np.ndarray:
    options = ("trainer.accelerator=cpu", "bootstrap=0", "boundary=false", "worst_images=0")
    _call(evaluate, f"ckpt={ckpt}", f"run_dir={out}", f"hydra.run.dir={out}", *options, *overrides)
    return np.array(json.loads((out / "scores_val.json").read_text())["confusion_matrix"])


def _matrix_of_files(found: Path, data: Path, edge: int | None = None) -> np.ndarray:
    """(K,K) counts of label files beside the masks, both brought to a longer side of ``edge``."""
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for index in range(2):
        maps = [
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            for path in (data / f"masks/{index}.png", found / f"{index}.png")
        ]
        if edge:
            size = (edge, round(HEIGHT * edge / WIDTH))
            maps = [cv2.resize(each, size, interpolation=cv2.INTER_NEAREST_EXACT) for each in maps]
        truth, prediction = (each[maps[0] != 255].astype(np.int64) for each in maps)
        matrix += np.bincount(CLASSES * truth + prediction, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return matrix


def _predict(ckpt: Path, data: Path, out: Path, *overrides: str) -> str:
    where = (f"source={data}/images", f"out={out}", f"hydra.run.dir={out}")
    return _call(predict, f"ckpt={ckpt}", *where, "save=index", "device=cpu", *overrides)


@pytest.mark.parametrize(
    "option",
    [
        "inference={scales: [0.5, 1.5], flip: true}", "inference={scales: [0.5, 1.0], fuse: max, multiple: 1}",
        "inference.short_side=40",
        "inference={long_side: 64, resample: area, scales: [1.0, 0.75]}", "inference/window=sliding",
        "inference/refine=crf", "model/scales=average",
    ],
)  # fmt: skip
def test_label_files_are_what_was_scored(option: str, net: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    more = {
        "inference/window=sliding": "inference.window.size=[32,48]",
        "inference/refine=crf": "inference.refine.iterations=2",
    }
    ckpt = net(option, *([more[option]] if option in more else []))
    matrix = _matrix_of_scores(ckpt, tmp_path / "scores")
    assert "note:" not in _predict(ckpt, data, tmp_path / "out")
    assert np.array_equal(_matrix_of_files(tmp_path / "out/index", data), matrix)
    assert np.count_nonzero(matrix.sum(0)) > 1


def test_options_of_the_command_line_do_the_same_to_both_and_are_named(
    net: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    ckpt = net("inference.short_side=40")
    options = ["inference=single", "inference.flip=true", "output_stride=16"]
    matrix = _matrix_of_scores(ckpt, tmp_path / "scores", *options)
    line = _predict(ckpt, data, tmp_path / "out", *options).splitlines()[0]
    assert line == (
        "note: the checkpoint was scored with inference.flip=false, output_stride=8; applied here:"
        " inference.flip=true, output_stride=16"
    )
    assert np.array_equal(_matrix_of_files(tmp_path / "out/index", data), matrix)


def _rule(scored: str, **changed: Any) -> str | None:
    saved = OmegaConf.create(yaml.safe_load(scored))
    return difference(saved, OmegaConf.merge(saved, changed))


@pytest.mark.parametrize(
    ("scored", "changed", "words"),
    [
        ("inference: {scales: [1.0]}", {}, None),
        ("inference: {}", {"inference": {"scales": [1.0], "flip": False, "multiple": 32, "resample": "area"}}, None),
        ("inference: {window: null}", {"inference": {"window": {"size": [9, 9]}}}, "window=null; .*size: "),
        ("inference: {refine: {std: 3, at: 1}}", {"inference": {"refine": {"std": 4}}}, r"inference\.refine\.std=3"),
        ("model: {scales: {scales: [1.0]}}", {"model": {"scales": {"scales": [0.5]}}}, r"model\.scales\.scales=\[1"),
        ("trainer: {precision: bf16-mixed}", {"trainer": {"precision": "32-true"}}, "precision=bf16-mixed; .*32-true"),
        ("model: {net: {backbone: {output_stride: 16}}}", {"output_stride": 8}, "output_stride=16; .*output_stride=8"),
        ("data: {eval_long_edge: 64}", {}, r"long_side=64, inference\.resample=area; .*long_side=null"),
        (
            "{data: {eval_long_edge: 64}, inference: {refine: {std: 3}}}",
            {"inference": {"long_side": 64, "resample": "area"}},
            "refine at=a longer side of 64; applied here: inference.refine at=the image's own size",
        ),
    ],
)  # fmt: skip
def test_every_rule_that_differs_is_named(scored: str, changed: dict[str, Any], words: str | None) -> None:
    line = _rule(scored, **changed)
    assert line is None if words is None else re.search(words, line)


def test_a_net_of_one_logit_is_applied_with_its_threshold(data: Path, tmp_path: Path) -> None:
    space = LabelSpace(SPACE.names[:2], SPACE.colors[:2])
    root = _scenes(tmp_path / "two", space)
    where = (f"data.root={root}", "data.classes=null", "data.file_values=null", "data.splits_files={val: val.txt}")
    ckpt = save_untrained(
        tmp_path / "net.ckpt", *NET, "experiment=binary", *where, "inference.threshold=0.3", space=space
    )
    matrix = _matrix_of_scores(ckpt, tmp_path / "scores")
    _predict(ckpt, root, tmp_path / "out")
    assert np.array_equal(_matrix_of_files(tmp_path / "out/index", root)[:2, :2], matrix)
    assert "inference.threshold=0.3; applied here: inference.threshold=0.5" in _predict(
        ckpt, root, tmp_path / "half", "inference.threshold=0.5"
    )
    assert not np.array_equal(_matrix_of_files(tmp_path / "half/index", root)[:2, :2], matrix)


def test_a_net_that_was_scored_on_smaller_images_sees_them_so(
    net: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    """The scores are of 32x53 pixels and the files of 48x80: both at the smaller size differ where classes meet."""
    ckpt = net(f"data.eval_long_edge={EDGE}")
    matrix = _matrix_of_scores(ckpt, tmp_path / "scores")
    assert "note:" not in _predict(ckpt, data, tmp_path / "out")
    line = _predict(ckpt, data, tmp_path / "whole", "inference.long_side=null")
    assert f"inference.long_side={EDGE}, inference.resample=area; applied here: inference.long_side=null" in line
    differing = [
        np.abs(_matrix_of_files(tmp_path / f"{out}/index", data, EDGE) - matrix).sum() / 2 / matrix.sum()
        for out in ("out", "whole")
    ]
    assert differing[0] < 0.02 < differing[1]


def test_pseudo_labels_are_made_at_the_size_of_the_score(net: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    ckpt = net(f"data.eval_long_edge={EDGE}")
    where = (f"source={data}/images", f"out={tmp_path}/masks", "device=cpu")
    printed = _call(autolabel, f"ckpt={ckpt}", *where)
    assert "inference.scales=[1.0], inference.flip=false; applied here: inference.scales=[0.5, 0.75" in printed
    assert "long_side" not in printed
    teacher = json.loads(next(tmp_path.glob("masks/*.json")).read_text())
    assert f"'long_side': {EDGE}" in str(teacher)


def test_submitted_files_are_made_at_the_size_of_the_score(data: Path, tmp_path: Path) -> None:
    space = cityscapes.label_space()
    ckpt = save_untrained(tmp_path / "net.ckpt", *NET, "data=cityscapes", f"data.eval_long_edge={EDGE}", space=space)
    frame = tmp_path / "data/leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png"
    frame.parent.mkdir(parents=True)
    shutil.copy(data / "images/0.png", frame)
    where = (f"data.root={tmp_path}/data", f"out={tmp_path}/sent.zip", "images=1", "size=null", "device=cpu")
    assert "note:" not in _call(submit, f"ckpt={ckpt}", *where)
    found = cv2.imread(str(tmp_path / "sent/bonn_000000_000019_pred_labelIds.png"), cv2.IMREAD_UNCHANGED)
    image = torch.from_numpy(read_image(frame)).permute(2, 0, 1)[None]
    seen = Inference(long_side=EDGE, resample="area")
    module = from_checkpoint.load_module(ckpt)
    label = seen.label(module.net, module.normalize(image))[0].numpy()
    assert np.array_equal(found, np.array(cityscapes.TRAIN_ID_TO_RAW_ID)[label])


def test_a_huge_image_is_not_brought_to_a_size_block_by_block(
    net: Callable[..., Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _predict(net(f"data.eval_long_edge={EDGE}"), data, tmp_path / "out", "huge.pixels=1000")
    line = capsys.readouterr().err
    assert "2 files were left out" in line
    assert f"inference.long_side={EDGE} cannot apply; set inference.long_side=null 'inference.scales=[0.5]'" in line


def test_a_benchmark_says_at_which_size_the_net_was_scored(net: Callable[..., Path], tmp_path: Path) -> None:
    fast = ("size=[64,96]", "mode=eager", "repeats=1", "warmup=0", "device=cpu", f"hydra.run.dir={tmp_path}")
    line = _call(benchmark, f"ckpt={net(f'data.eval_long_edge={EDGE}')}", *fast).splitlines()[0]
    assert line.endswith(f"inference.long_side={EDGE}, inference.resample=area; here the net sees size=[64, 96]")
