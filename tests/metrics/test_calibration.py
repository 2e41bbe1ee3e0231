"""Calibration error of known confidences."""

import numpy as np
import pytest
import torch

from src.metrics import Calibration, CalibrationCounts


def _error(right: np.ndarray, probability: np.ndarray) -> float:
    """From the probabilities themselves, bin by bin."""
    bins = np.minimum((probability * 15).astype(int), 14)
    return sum(abs(right[bins == b].sum() - probability[bins == b].sum()) for b in range(15)) / len(right)


@pytest.mark.parametrize("power", [1, 0.3, 3])
def test_equals_the_error_of_exact_probabilities_to_its_resolution(power: float) -> None:
    generator = np.random.default_rng(1)
    probability = generator.random(40_000)
    right = generator.random(40_000) < probability**power
    label = torch.zeros(2, 100, 200, dtype=torch.uint8)
    prediction = torch.from_numpy((~right).astype(np.uint8)).view(2, 100, 200)
    confidence = torch.from_numpy((255 * probability).astype(np.uint8)).view(2, 100, 200)
    counts = CalibrationCounts()
    for index in range(2):
        counts.update(prediction[index], label[index], confidence[index])
    calibration = Calibration(counts.compute())
    assert calibration.error == pytest.approx(_error(right, probability), abs=1 / 510)
    assert calibration.bins[:, 0].sum() == 40_000
    assert (calibration.error < 0.02) == (power == 1)


def test_sure_and_right_is_no_error_and_ignored_pixels_do_not_count() -> None:
    counts = CalibrationCounts()
    assert np.isnan(Calibration(torch.zeros(2, 256, dtype=torch.int64)).error)
    label = torch.tensor([[0, 1, 255]], dtype=torch.uint8)
    counts.update(torch.tensor([[0, 1, 1]], dtype=torch.uint8), label, torch.full((1, 3), 255, dtype=torch.uint8))
    calibration = Calibration(counts.compute())
    assert calibration.error == 0
    assert calibration.bins[-1].tolist() == [2, 1, 1] and calibration.bins[:-1, 1:].isnan().all()
