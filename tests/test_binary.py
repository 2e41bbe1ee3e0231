"""One foreground class: head, loss, threshold and scores belong together, from masks of 0 and 255 to predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.build import from_checkpoint
from src.errors import UserError
from src.inference import Inference
from tests.conftest import NET, call

FAST = ["data.batch_size=4", "data.num_workers=0", "trainer=cpu", "logger=none", "callbacks.panels=null"]
SMALL = ["transforms.crop_size=[64,64]", "transforms.scale=[1.0]", "optimizer.lr=0.01", "trainer.max_epochs=4"]
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on dark ground, with masks of 0 and 255."""
    root, generator = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for index in range(20):
        mask = np.zeros((64, 64), np.uint8)
        top, left = generator.integers(0, 32, 2)
        mask[top : top + 32, left : left + 32] = 255
        image = generator.integers(0, 90, (64, 64, 3), dtype=np.uint8) + mask[..., None] // 2
        for kind, array in (("images", image), ("masks", mask)):
            path = root / kind / ("train" if index < 16 else "val") / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), array)
    return root


def _train(data: Path, out: Path, *overrides: str) -> None:
    root = ["data.length={train: 8, val: 2}"] if "data=toy_streets" in overrides else [f"data.root={data}"]
    places = [*root, f"hydra.run.dir={out}", "data.splits.test=[val]"]
    call("train", "experiment=binary", *places, *NET, *FAST, *SMALL, *overrides)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("binary") / "run"
    _train(data, out)
    return out


def test_training_needs_one_word_and_scores_background_and_foreground(trained: Path) -> None:
    scores = json.loads((trained / "scores_test.json").read_text())
    assert scores["classes"] == ["background", "foreground"]
    assert scores["iou"]["foreground"] > 0.6
    module = from_checkpoint.load_module(trained / "checkpoints/best.ckpt")
    assert module.net(torch.zeros(1, 3, 64, 64))["logits"].shape == (1, 1, 64, 64)
    assert module.scores(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 2, 64, 64)


def test_evaluate_repeats_the_score_and_takes_another_threshold(trained: Path, tmp_path: Path) -> None:
    matrices = []
    for index, overrides in enumerate([[], ["inference.threshold=0.999"]]):
        options = [f"ckpt={trained}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}/{index}", "trainer=cpu"]
        call("evaluate", *options, "data.num_workers=0", *overrides)
        matrices.append(np.array(json.loads((tmp_path / f"{index}/scores_val.json").read_text())["confusion_matrix"]))
    assert (matrices[0] == json.loads((trained / "scores_test.json").read_text())["confusion_matrix"]).all()
    assert matrices[1][:, 1].sum() < matrices[0][:, 1].sum()


def test_predictions_are_masks_of_two_classes(trained: Path, data: Path, tmp_path: Path) -> None:
    found = {}
    for threshold in (0.001, 0.5):
        out = tmp_path / str(threshold)
        call(
            "predict", f"ckpt={trained}/checkpoints/best.ckpt", f"source={data}/images/val", f"out={out}", "device=cpu",
            f"inference.threshold={threshold}", f"hydra.run.dir={tmp_path}/run",
        )  # fmt: skip
        found[threshold] = np.stack([cv2.imread(str(path), -1) for path in sorted((out / "index").glob("*.png"))])
    assert found[0.5].shape == (4, 64, 64)
    assert set(np.unique(found[0.5])) == {0, 1}
    assert (found[0.001] >= found[0.5]).all()
    assert found[0.001].sum() > found[0.5].sum()


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_the_threshold_is_one_on_the_mean_probability(scales: tuple[float, ...], threshold: float) -> None:
    image = 3 * torch.randn(1, 3, 64, 64)

    def net(image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": image[:, :1]}

    def probability(scale: float) -> torch.Tensor:
        size = [round(64 * scale)] * 2
        scaled = image if scale == 1 else torch.nn.functional.interpolate(image, size, mode="bilinear")
        return torch.nn.functional.interpolate(scaled[:, :1], (64, 64), mode="bilinear").sigmoid()

    mean = sum(map(probability, scales)) / len(scales)
    scores = Inference(scales, threshold=threshold)(net, image)
    assert torch.equal(scores.argmax(1), (mean[:, 0] > threshold).long())


def test_a_threshold_needs_one_logit() -> None:
    def net(image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": image}

    with pytest.raises(UserError, match=r"inference\.threshold=0\.3 .*has 3; .*experiment=binary"):
        Inference(threshold=0.3)(net, torch.zeros(1, 3, 64, 64))
    with pytest.raises(UserError, match=r"inference\.threshold=1"):
        Inference(threshold=1)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=cross_entropy"], ["loss=cross_entropy", "loss=bce", "model.net.num_classes=2"]),
        (["aux_loss=ohem"], ["loss=ohem", "loss=bce"]),
        (["data.classes=[a,b,c]"], ["model.net.num_classes=1", "3 classes", "a, b, c"]),
        (["data=toy_streets"], ["model.net.num_classes=1", "11 classes", "experiment=binary"]),
        (["model/scales=average", "model.scales.fuse=mean_probabilities"], ["mean_probabilities", "mean or max"]),
        (["model.net.num_classes=3"], ["model.net.num_classes=3", "2 classes", "model.net.num_classes=2"]),
        (["inference.threshold=0"], ["inference.threshold=0", "above 0, below 1"]),
        (["data.classes=[a]", "data.file_values={0:0,255:0}"], ["one class, 'a'", "data.classes=[background,a]"]),
        (["data.file_values=null"], ["255", "file_values"]),
    ],
)
def test_parts_that_do_not_belong_together_end_in_one_sentence(
    data: Path, tmp_path: Path, overrides: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _train(data, tmp_path / "run", *overrides)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines


@pytest.mark.slow
def test_masks_of_0_and_1_need_one_option_and_a_sum_with_dice_learns(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    root = tmp_path / "ones"
    for path in data.rglob("*.png"):
        array = cv2.imread(str(path), -1)
        if path.parent.parent.name == "masks":
            array = array // 255
            array[:4] = 255  # ignored
        (root / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path.relative_to(data)), array)
    options = ["data.file_values=null", "loss=bce_dice", "data.class_weights=median_frequency"]
    _train(root, tmp_path / "run", *options)
    scores = json.loads((tmp_path / "run/scores_test.json").read_text())
    assert np.sum(scores["confusion_matrix"]) == 4 * 60 * 64
    assert scores["iou"]["foreground"] > 0.6
