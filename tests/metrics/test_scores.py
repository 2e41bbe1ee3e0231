"""The confusion matrix against a plain count, and scores against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import UserError
from src.metrics import ConfusionMatrix, Scores
from src.metrics.confusion import _count_cpu, _count_cuda


def _random(shape: tuple[int, ...], k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, k, shape, dtype=np.uint8)
    label[generator.random(shape) < 0.2] = 255
    return torch.from_numpy(generator.integers(0, k, shape, dtype=np.uint8)), torch.from_numpy(label)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 254), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_equals_a_count_pixel_by_pixel(k: int, height: int, width: int, seed: int) -> None:
    prediction, label = _random((2, height, width), k, seed)
    matrix = ConfusionMatrix(k)
    matrix.update(prediction, label)
    expected = np.zeros((k, k), np.int64)
    for truth, predicted in zip(label.flatten().tolist(), prediction.flatten().tolist(), strict=True):
        if truth != 255:
            expected[truth, predicted] += 1
    assert np.array_equal(matrix.compute().numpy(), expected)


def test_is_exact_past_the_range_of_float32_and_over_uneven_batches() -> None:
    whole, parts = ConfusionMatrix(2), ConfusionMatrix(2)
    label = torch.zeros(1, 4200, 4100, dtype=torch.uint8)  # 17.2 million pixels of one kind, more than 2^24
    label[0, 0, 0] = 1
    whole.update(torch.zeros_like(label), label)
    for rows in label.split([1, 999, 3200], dim=1):
        parts.update(torch.zeros_like(rows), rows)
    assert whole.compute().tolist() == [[4200 * 4100 - 1, 0], [1, 0]]
    assert torch.equal(whole.compute(), parts.compute())


def test_ids_outside_the_classes_are_named() -> None:
    with pytest.raises(UserError, match=r"0\.\.1 .*label \[7\].*prediction \[3\]"):
        ConfusionMatrix(2).update(torch.tensor([[0, 3]], dtype=torch.uint8), torch.tensor([[7, 1]], dtype=torch.uint8))


def test_shapes_must_agree() -> None:
    with pytest.raises(UserError, match="one shape"):
        ConfusionMatrix(2).update(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.uint8))


def test_scores_of_a_known_matrix() -> None:
    scores = Scores(torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert scores.iou[:2].tolist() == pytest.approx([6 / 9, 3 / 6])
    assert torch.isnan(scores.iou[2])
    assert scores.absent == [2]
    assert scores.miou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert scores.pixel_accuracy == pytest.approx(9 / 12)


def test_a_class_predicted_but_never_true_counts_as_zero() -> None:
    scores = Scores(torch.tensor([[5, 1], [0, 0]]))
    assert scores.absent == []
    assert scores.iou[1] == 0


def test_counting_on_a_gpu_is_counting_on_the_cpu() -> None:
    prediction, label = _random((3, 31, 17), 19, 0)
    assert torch.equal(_count_cuda(label, prediction), _count_cpu(label, prediction))


def test_accuracies_and_weights_of_a_known_matrix() -> None:
    scores = Scores(torch.tensor([[6, 2, 1], [1, 3, 0], [0, 0, 0]]))
    assert scores.accuracy[:2].tolist() == pytest.approx([6 / 9, 3 / 4])
    assert scores.accuracy[2].isnan()
    assert scores.mean_accuracy == pytest.approx((6 / 9 + 3 / 4) / 2)
    assert scores.frequency_weighted_iou == pytest.approx(9 / 13 * 6 / 10 + 4 / 13 * 3 / 6)
    nothing = Scores(torch.zeros(3, 3, dtype=torch.int64))
    assert np.isnan([nothing.mean_accuracy, nothing.frequency_weighted_iou, nothing.grouped("aab").miou]).all()


def test_confusions_inside_a_category_are_hits() -> None:
    scores = Scores(torch.tensor([[5, 1, 2, 0], [3, 4, 1, 0], [2, 0, 6, 0], [0, 0, 0, 0]]))
    grouped = scores.grouped(["b", "a", "b", "c"])
    assert grouped.matrix.tolist() == [[15, 1, 0], [4, 4, 0], [0, 0, 0]]
    assert grouped.iou[:2].tolist() == pytest.approx([15 / 20, 4 / 9]) and grouped.absent == [2]
