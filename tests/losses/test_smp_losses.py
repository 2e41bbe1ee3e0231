"""Losses of segmentation_models_pytorch behind adapters; masking: ``test_masking.py``."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.losses import BCELoss, DiceLoss, FocalLoss, LovaszLoss

pytest.importorskip("segmentation_models_pytorch")


def _case() -> tuple[torch.Tensor, torch.Tensor]:
    logits, label = torch.randn(2, 3, 8, 9), torch.randint(0, 3, (2, 8, 9), dtype=torch.uint8)
    label[:, :3] = 255
    return logits, label


@pytest.mark.parametrize("make", [DiceLoss, LovaszLoss])
def test_overlap_losses_are_a_mean_over_the_classes_that_occur(make: Callable[[], nn.Module]) -> None:
    (logits, label), criterion = _case(), make()
    never = torch.full_like(logits[:, :1], -1e4)  # a class that is neither predicted nor labelled
    wider = torch.cat([logits, never, never], 1)
    torch.testing.assert_close(criterion(wider, label), criterion(logits, label))


def test_focal_loss_without_focus_is_bce() -> None:
    logits, label = _case()
    valid = (label != 255).sum()
    expected = BCELoss()(logits, label) * (valid + 1) / valid / 3  # a mean over channels
    torch.testing.assert_close(FocalLoss(gamma=0.0)(logits, label), expected)
    assert FocalLoss(gamma=2.0)(logits, label) < expected


@pytest.mark.parametrize("name", ["dice", "focal", "lovasz"])
def test_a_missing_package_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    criterion = {"dice": DiceLoss, "focal": FocalLoss, "lovasz": LovaszLoss}[name]
    with pytest.raises(UserError, match=rf"^loss={name} needs .*pip install segmentation-models-pytorch==\S+$"):
        criterion()


@pytest.mark.parametrize(
    "make", [lambda: DiceLoss(smooth=-1), lambda: FocalLoss(gamma=0.5), lambda: FocalLoss(alpha=1.5)]
)
def test_impossible_options_of_the_package_are_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(UserError, match=r"^loss\.(smooth|gamma|alpha)="):
        make()


def test_dice_is_one_minus_twice_the_overlap_over_the_sum() -> None:
    logits, label = _case()
    valid = label != 255
    scores = []
    for index in range(3):
        probs, truth = logits.softmax(1)[:, index][valid], (label == index)[valid].float()
        scores.append(2 * torch.minimum(probs, truth).sum() / (probs.sum() + truth.sum()))
    torch.testing.assert_close(DiceLoss()(logits, label), 1 - sum(scores) / 3)


def test_lovasz_of_certain_predictions_is_one_minus_the_iou() -> None:
    _, label = _case()
    truth = label.where(label != 255, 0).long()
    guess = torch.where(torch.rand(truth.shape) < 0.3, (truth + 1) % 3, truth)
    logits = 100 * nn.functional.one_hot(guess, 3).permute(0, 3, 1, 2).float()
    valid = label != 255
    ious = []
    for index in range(3):
        found, there = (guess == index)[valid], (label == index)[valid]
        ious.append((found & there).sum() / (found | there).sum())
    torch.testing.assert_close(LovaszLoss()(logits, label), 1 - sum(ious) / 3)
