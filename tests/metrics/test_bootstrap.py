"""Intervals over images and the comparison of two runs."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.metrics import ConfusionMatrix, PerImage, Scores, bootstrap, compare


def _images(quality: float, seed: int, *, count: int = 40, classes: int = 4) -> PerImage:
    """Images of two or three classes each; a pixel is right with probability ``quality``, more or less."""
    truths, generator = np.random.default_rng(0), np.random.default_rng([seed, 1])
    images = PerImage(classes)
    for index in range(count):
        truth = truths.choice(truths.choice(classes - 1, 2), 300)  # the last class never occurs
        right = generator.random(300) < quality + truths.normal(0, 0.1)
        prediction = np.where(right, truth, generator.integers(0, classes - 1, 300))
        tensors = (torch.from_numpy(each.astype(np.uint8)) for each in (prediction, truth))
        images.add(f"{index:03d}", ConfusionMatrix(classes).count(*tensors))
    return images


def _miou(images: PerImage, chosen: np.ndarray) -> float:
    hits, union, _ = (counts[chosen].sum(0) for counts in images.counts())
    return float((hits[union > 0] / union[union > 0]).mean())


def test_names_that_a_spreadsheet_would_run_are_text_and_come_back(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "'=x", "''+1", "-1", "@x", "\tx", "\rx", "\nx", "'plain'", "a\udcffb", "plain"]
    images = PerImage(len(names))
    for name in sorted(names):
        images.add(name, torch.eye(len(names), dtype=torch.int64))
    path = tmp_path / "per_image.csv"
    path.write_bytes(images.to_csv(names).encode(errors="surrogateescape"))
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = [cell for row in csv.reader(file) for cell in row[:2]]
    assert {"'=cmd|' /C calc'!A0", "''=x", "'''+1", "'-1", "'plain'", "plain"} < set(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    again = PerImage.read(path, names)
    assert again.names == images.names
    assert np.array_equal(again.counts(), images.counts())


def test_counts_add_up_to_the_scores_and_survive_a_file(tmp_path: Path) -> None:
    images, total = PerImage(5), torch.zeros(5, 5, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    for name in ("b", "a, with a comma", "c", "a, with a comma"):
        matrix = torch.randint(0, 50, (5, 5), generator=generator)
        matrix[4] = matrix[:, 4] = 0
        images.add(name, matrix)
        total += matrix
    images.add("nothing to see", torch.zeros(5, 5, dtype=torch.int64))
    joined = PerImage(5).joined([images])
    assert joined.names == ["a, with a comma", "a, with a comma (2)", "b", "c", "nothing to see"]
    hits, union, truth = joined.counts()
    assert np.array_equal(hits.sum(0) / union.sum(0).clip(1), Scores(total).iou.nan_to_num().numpy())
    assert np.array_equal(truth.sum(0), total.sum(1).numpy())
    path = tmp_path / "per_image.csv"
    path.write_text(joined.to_csv(classes := ["r", "s, t", "u", "v", "w"]))
    again = PerImage.read(path, classes)
    assert again.names == joined.names
    assert all(np.array_equal(*both) for both in zip(again.counts(), joined.counts(), strict=True))
    with pytest.raises(UserError, match=r"per_image\.csv: is broken or of other classes"):
        PerImage.read(path, ["r", "s", "u", "v", "w"])


def test_the_poorest_images_have_the_lowest_mean_over_their_own_classes() -> None:
    images = PerImage(3)
    images.add("half", torch.tensor([[5, 5, 0], [0, 0, 0], [0, 0, 0]]))  # IoU 1/2 of what is, 0 of what is not
    images.add("good", torch.tensor([[9, 1, 0], [0, 10, 0], [0, 0, 0]]))
    images.add("ignored", torch.zeros(3, 3, dtype=torch.int64))
    images.add("wrong", torch.tensor([[0, 7, 0], [0, 0, 0], [0, 0, 0]]))
    poorest = [(images.names[index], miou) for index, miou in images.poorest(9)]
    assert poorest == [("wrong", 0), ("half", 0.25), ("good", pytest.approx((9 / 10 + 10 / 11) / 2))]
    assert len(images.poorest(1)) == 1


def test_the_lowest_images_of_each_class_come_first() -> None:
    images = PerImage(3)
    for name, hits in (("good", 9), ("bad", 1), ("fair", 5)):
        images.add(name, torch.tensor([[hits, 10 - hits, 0], [0, 0, 0], [0, 0, 0]]))
    for missed in (2, 70, 5):
        images.add(f"missed {missed}", torch.tensor([[0, 0, 0], [missed, 0, 0], [0, 0, 0]]))
    lowest = images.lowest(2)
    assert [(images.names[index], iou) for index, iou in lowest[0]] == [("missed 70", 0), ("missed 5", 0)]
    assert [images.names[index] for index, _ in images.lowest(9)[0][3:]] == ["bad", "fair", "good"]
    assert [images.names[index] for index, _ in lowest[1]] == ["missed 70", "bad"] and 2 not in lowest


def test_the_interval_is_that_of_resampled_images() -> None:
    images = _images(0.7, 0)
    interval = bootstrap(images, resamples=2000)
    draws = np.random.default_rng(5).integers(0, 40, (2000, 40))
    low, high = np.quantile([_miou(images, draw) for draw in draws], [0.025, 0.975])
    assert interval.miou == pytest.approx((low, high), abs=0.004)
    assert interval.miou[0] < _miou(images, np.arange(40)) < interval.miou[1]
    assert np.isnan(interval.iou[3]).all() and (interval.iou[:3, 0] < interval.iou[:3, 1]).all()
    assert bootstrap(images, resamples=2000).miou == interval.miou
    assert bootstrap(images, resamples=2000, seed=1).miou != interval.miou
    assert bootstrap(_images(0.7, 0, count=1)) is None and bootstrap(images, resamples=0) is None


def test_more_images_make_it_narrower() -> None:
    widths = [np.diff(bootstrap(_images(0.7, 0, count=count)).miou).item() for count in (20, 320)]
    assert widths[1] < 0.4 * widths[0]


def test_a_better_run_is_told_from_an_equal_one() -> None:
    better = compare(_images(0.7, 0), _images(0.76, 1), resamples=1000)
    assert 0 < better.interval.miou[0] < better.miou < better.interval.miou[1] and better.p_value < 0.01
    back = compare(_images(0.76, 1), _images(0.7, 0), resamples=1000)
    assert back.miou == -better.miou and back.p_value == pytest.approx(better.p_value, abs=0.01)
    itself = compare(_images(0.7, 0), _images(0.7, 0), resamples=100)
    assert itself.p_value == 1 and itself.interval.miou == (0, 0)


def test_equal_runs_are_seldom_told_apart() -> None:
    """Under no difference, p-values below a level are as frequent as the level says."""
    runs = [_images(0.7, seed, count=12) for seed in range(60)]
    p_values = np.array([compare(*pair, resamples=200).p_value for pair in zip(runs[::2], runs[1::2], strict=True)])
    assert (p_values < 0.1).mean() < 0.2 and 0.35 < p_values.mean() < 0.65
