"""Boundary IoU against the definition, class by class."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.metrics import BoundaryCounts, BoundaryScores
from src.metrics.boundary import boundary


def _eroded(mask: np.ndarray, times: int) -> np.ndarray:
    """Of one mask: a frame of zeros, then 3x3 erosion again and again."""
    padded = np.pad(mask.astype(np.uint8), 1)
    for _ in range(times):
        padded = cv2.erode(padded, np.ones((3, 3), np.uint8), borderValue=0)
    return padded[1:-1, 1:-1].astype(bool)


def _label(height: int, width: int, classes: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    small = generator.choice([*range(classes), 255], (max(1, height // 7), max(1, width // 7))).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def _scores(prediction: np.ndarray, label: np.ndarray, classes: int, ratio: float = 0.02) -> BoundaryScores:
    counts = BoundaryCounts(classes, ratio=ratio)
    counts.update(torch.from_numpy(prediction)[None], torch.from_numpy(label)[None])
    return BoundaryScores(counts.compute())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6))
def test_one_pass_finds_the_bands_of_all_classes(height: int, width: int, distance: int, seed: int) -> None:
    label = _label(height, width, 4, seed)
    band = boundary(label, distance)
    for value in np.unique(label):
        mask = label == value
        assert np.array_equal(band & mask, mask & ~_eroded(mask, distance))


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.sampled_from([0.02, 0.05, 0.2]), st.integers(0, 10**6))
def test_iou_of_bands_by_definition(height: int, width: int, ratio: float, seed: int) -> None:
    label, prediction = _label(height, width, 3, seed), _label(height, width, 3, seed + 1)
    prediction[prediction == 255] = 0
    distance = max(1, round(ratio * np.sqrt(height**2 + width**2)))
    scores = _scores(prediction, label, 4, ratio)
    valid = label != 255
    for value in range(4):
        bands = [mask & ~_eroded(mask, distance) for mask in ((label == value), (prediction == value) & valid)]
        union = (bands[0] | bands[1]).sum()
        expected = (bands[0] & bands[1]).sum() / union if union else np.nan
        assert float(scores.iou[value]) == pytest.approx(expected, nan_ok=True)


def test_a_right_prediction_has_one_whatever_lies_under_ignored_pixels() -> None:
    label = _label(50, 70, 3, 0)
    prediction = np.where(label == 255, np.uint8(2), label)
    assert _scores(prediction, label, 3).miou == 1


def test_a_large_and_a_small_square_lose_alike() -> None:
    """An outline that is one pixel off costs a large object less IoU, and as much boundary IoU."""
    found = []
    for side in (100, 400):
        label = np.zeros((500, 500), np.uint8)
        label[50 : 50 + side, 50 : 50 + side] = 1
        found.append(float(_scores(np.roll(label, 5, axis=1), label, 2, ratio=0.01).iou[1]))
    assert found[0] == pytest.approx(found[1], abs=0.05) and found[0] < 0.7


def test_images_of_any_size_are_counted_together_and_absent_classes_are_left_out() -> None:
    counts = BoundaryCounts(3)
    for size in (20, 40):
        label = torch.zeros(2, size, size, dtype=torch.uint8)
        counts.update(label, label)
    scores = BoundaryScores(counts.compute())
    assert scores.counts.tolist() == [[2 * (20**2 - 18**2 + 40**2 - 38**2), 0, 0]] * 3
    assert scores.iou[:1].tolist() == [1] and scores.iou[1:].isnan().all() and scores.miou == 1
