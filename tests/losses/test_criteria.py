"""Criteria against golden values, and what ignored pixels may not do."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src.errors import UserError
from src.losses import CrossEntropyLoss, OHEMCrossEntropyLoss, Supervision
from tests.conftest import ROOT

CRITERIA = [CrossEntropyLoss(), CrossEntropyLoss(class_weights=[1.0, 2.0, 0.5]), OHEMCrossEntropyLoss()]


def _case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 8, 9, generator=generator)
    label = torch.randint(0, 3, (2, 8, 9), generator=generator, dtype=torch.uint8)
    label[:, :3] = 255
    return logits, label


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    logits, label = _case()
    expected = F.cross_entropy(logits, label.long(), ignore_index=255)
    assert torch.allclose(CrossEntropyLoss()(logits, label), expected)


def test_weighted_cross_entropy_divides_by_the_weights_of_valid_pixels() -> None:
    logits, label = _case()
    weights = [1.0, 2.0, 0.5]
    expected = F.cross_entropy(logits, label.long(), torch.tensor(weights), ignore_index=255)
    assert torch.allclose(CrossEntropyLoss(class_weights=weights)(logits, label), expected)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_batch_without_valid_pixels_has_loss_zero_and_a_gradient(criterion: torch.nn.Module) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = criterion(logits, torch.full((1, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("criterion", CRITERIA)
def test_logits_of_ignored_pixels_change_nothing(criterion: torch.nn.Module) -> None:
    logits, label = _case()
    other = logits.clone()
    other[:, :, :3] = 100 * torch.randn(2, 3, 3, 9)
    assert torch.equal(criterion(logits, label), criterion(other, label))


@pytest.mark.parametrize("case", ["many_hard", "few_hard"])
def test_ohem_equals_the_reference(case: str) -> None:
    golden = np.load(ROOT / f"tests/golden/losses/ohem_{case}_a.npz")
    names = [name.removeprefix("loss_") for name in golden.files if name.startswith("loss")]
    assert names
    for name in names:
        suffix = f"_{name}" if f"loss_{name}" in golden.files else ""
        logits = torch.from_numpy(golden["logits"]).requires_grad_()
        loss = OHEMCrossEntropyLoss(0.7, 1 / 16)(logits, torch.from_numpy(golden["labels"]))
        loss.backward()
        expected, gradient = float(golden[f"loss{suffix}"]), golden[f"grad{suffix}"]
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert np.abs(logits.grad.numpy() - gradient).max() < 1e-4 * np.abs(gradient).max()


def test_supervision_weighs_named_outputs() -> None:
    logits, label = _case()
    outputs = {"logits": logits, "aux_a": 2 * logits, "attention": logits}
    criterion = CrossEntropyLoss()
    total, parts = Supervision(criterion, {"aux_a": 0.4})(outputs, label)
    assert torch.allclose(total, criterion(logits, label) + 0.4 * criterion(2 * logits, label))
    assert set(parts) == {"logits", "aux_a"}


@pytest.mark.parametrize("weights", [{}, {"aux_a": 1.0, "aux_b": 1.0}])
def test_supervision_refuses_weights_that_do_not_fit_the_outputs(weights: dict[str, float]) -> None:
    logits, label = _case()
    with pytest.raises(UserError, match=r"model\.aux_weights.*aux_"):
        Supervision(CrossEntropyLoss(), weights)({"logits": logits, "aux_a": logits}, label)


def test_class_weights_of_another_length_are_refused() -> None:
    logits, label = _case()
    with pytest.raises(UserError, match="2 entries but there are 3 classes"):
        CrossEntropyLoss(class_weights=[1.0, 1.0])(logits, label)
