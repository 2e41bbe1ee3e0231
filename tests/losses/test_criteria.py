"""Criteria against golden values and formulas, and their sum over named outputs; masking: ``test_masking.py``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src.errors import UserError
from src.losses import (
    BCELoss,
    CrossEntropyLoss,
    ImageWeightedCELoss,
    OHEMCrossEntropyLoss,
    Supervision,
    WeightedSum,
)
from tests.conftest import ROOT

WEIGHTS = [1.0, 2.0, 0.5]


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


def test_summed_cross_entropy_is_the_mean_times_the_valid_pixels() -> None:
    logits, label = _case()
    mean, total = (CrossEntropyLoss(reduction=reduction)(logits, label) for reduction in ("mean", "sum"))
    torch.testing.assert_close(total, mean * (label != 255).sum())
    with pytest.raises(UserError, match=r"loss\.reduction=none .*mean or sum"):
        CrossEntropyLoss(reduction="none")


def test_weighted_cross_entropy_divides_by_the_weights_of_valid_pixels() -> None:
    logits, label = _case()
    weights = [1.0, 2.0, 0.5]
    expected = F.cross_entropy(logits, label.long(), torch.tensor(weights), ignore_index=255)
    assert torch.allclose(CrossEntropyLoss(class_weights=weights)(logits, label), expected)


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


@pytest.mark.parametrize(("norm", "variant"), [(False, "image_plain"), (True, "image_norm")])
def test_image_weighted_cross_entropy_equals_the_reference(norm: bool, variant: str) -> None:
    golden = np.load(ROOT / "tests/golden/losses/image_weighted_ce_a.npz")
    logits = torch.from_numpy(golden["logits"]).requires_grad_()
    loss = ImageWeightedCELoss(norm=norm)(logits, torch.from_numpy(golden["labels"]))
    loss.backward()
    expected = golden[f"grad_{variant}"]  # every fifth
    assert loss.item() == pytest.approx(float(golden[f"loss_{variant}"]), rel=1e-5)
    assert np.abs(logits.grad.numpy().ravel()[::5] - expected).max() < 1e-4 * np.abs(expected).max()


def _kept(min_kept: float, losses: torch.Tensor, threshold: float = 0.7) -> torch.Tensor:
    """The losses that OHEM takes the mean of, by sorting."""
    hard = (losses > -np.log(threshold)).sum()
    return losses.sort(descending=True).values[: max(int(hard), int(min_kept))]


@pytest.mark.parametrize("min_kept", [0, 0.5, 1, 5, 20, 30, 500])
def test_ohem_keeps_a_share_of_the_valid_pixels_or_a_number_for_each_image(min_kept: float) -> None:
    logits, label = _case()
    logits *= 8  # few hard pixels
    losses = F.cross_entropy(logits, label.long(), ignore_index=255, reduction="none")[label != 255]
    wanted = min_kept * (len(losses) if min_kept <= 1 else 2)
    expected = _kept(min(wanted, len(losses)), losses).mean()
    torch.testing.assert_close(OHEMCrossEntropyLoss(0.7, min_kept)(logits, label), expected)


@pytest.mark.parametrize("min_kept", [0.0, 0.9])
def test_class_weights_change_what_hard_pixels_count_but_not_which_they_are(min_kept: float) -> None:
    logits, label = _case()
    loss = OHEMCrossEntropyLoss(0.3, min_kept, class_weights=WEIGHTS)(logits, label)
    valid, weight = label[label != 255].long(), torch.tensor(WEIGHTS)
    losses = F.cross_entropy(logits, label.long(), ignore_index=255, reduction="none")[label != 255]
    order = losses.argsort(descending=True)[: len(_kept(min_kept * len(losses), losses, 0.3))]
    torch.testing.assert_close(loss, (losses * weight[valid])[order].mean())


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": 1.0}, {"threshold": 7}, {"min_kept": -1}, {"min_kept": 2.5}]
)
def test_ohem_refuses_what_is_no_probability_and_no_count(options: dict[str, float]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(UserError, match=rf"loss\.{name}={value}"):
        OHEMCrossEntropyLoss(**options)


def test_bce_is_that_of_a_one_hot_label_over_one_pixel_more_than_are_valid() -> None:
    logits, label = _case()
    valid = label != 255
    one_hot = F.one_hot(label.long() % 255, 3).permute(0, 3, 1, 2).float()
    each = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(1)
    torch.testing.assert_close(BCELoss()(logits, label), each[valid].sum() / (valid.sum() + 1))
    weight = torch.tensor(WEIGHTS)[label[valid].long()]
    expected = (weight * each[valid]).sum() / (weight.sum() + 1)
    torch.testing.assert_close(BCELoss(class_weights=WEIGHTS)(logits, label), expected)


def test_bce_of_one_logit_is_cross_entropy_of_zero_and_that_logit() -> None:
    logits, label = _case()
    label[label == 2] = 1
    valid, both = (label != 255).sum(), torch.stack([torch.zeros_like(logits[:, 0]), logits[:, 0]], 1)
    expected = CrossEntropyLoss()(both, label) * valid / (valid + 1)
    torch.testing.assert_close(BCELoss()(logits[:, :1], label), expected)


def test_a_sum_weighs_its_criteria() -> None:
    logits, label = _case()
    total = WeightedSum(criteria={"a": CrossEntropyLoss(), "b": BCELoss()}, weights={"a": 2, "b": 0.5})
    expected = 2 * CrossEntropyLoss()(logits, label) + 0.5 * BCELoss()(logits, label)
    torch.testing.assert_close(total(logits, label), expected)
    with pytest.raises(UserError, match=r"loss\.weights=.*a, b"):
        WeightedSum(criteria={"a": CrossEntropyLoss(), "b": BCELoss()}, weights={"a": 1})


def test_auxiliary_outputs_may_have_a_loss_of_their_own() -> None:
    logits, label = _case()
    outputs = {"logits": logits, "aux_regions": 2 * logits, "aux_scale_050": 3 * logits}
    supervision = Supervision(
        OHEMCrossEntropyLoss(), {"aux_regions": 0.4, "aux_scale_050": 0.05}, aux_criterion=BCELoss()
    )
    total, parts = supervision(outputs, label)
    torch.testing.assert_close(parts["logits"], OHEMCrossEntropyLoss()(logits, label))
    torch.testing.assert_close(parts["aux_regions"], BCELoss()(2 * logits, label))
    expected = parts["logits"] + 0.4 * parts["aux_regions"] + 0.05 * BCELoss()(3 * logits, label)
    torch.testing.assert_close(total, expected)


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
