"""Labels that are reduced to the size of smaller outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from src.losses import CrossEntropyLoss, Supervision
from src.losses.supervision import reduce_label

SIZES = [((321, 321), (41, 41)), ((513, 361), (65, 46)), ((96, 161), (13, 21)), ((64, 97), (8, 97)), ((50, 35), (7, 3))]


def _label(size: tuple[int, int], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(0, 250, (2, *size), dtype=dtype)


@pytest.mark.parametrize(("size", "smaller"), SIZES)
def test_reduction_is_nearest_as_in_pillow_and_torch(size: tuple[int, int], smaller: tuple[int, int]) -> None:
    label = _label(size)
    reduced = reduce_label(label, smaller)
    for ours, theirs in zip(reduced, label, strict=True):
        image = Image.fromarray(theirs.numpy()).resize(smaller[::-1], Image.Resampling.NEAREST)
        assert np.array_equal(ours.numpy(), np.asarray(image))
    exact = F.interpolate(label[:, None].float(), smaller, mode="nearest-exact")[:, 0]
    assert torch.equal(reduced.float(), exact)


def test_values_and_type_are_kept() -> None:
    label = torch.tensor([[[300, -1], [7, 1000]]], dtype=torch.int16).repeat_interleave(8, 1).repeat_interleave(8, 2)
    reduced = reduce_label(label, (2, 2))
    assert reduced.dtype == torch.int16
    assert reduced.tolist() == [[[300, -1], [7, 1000]]]


def test_labels_are_never_enlarged() -> None:
    label = _label((16, 24))
    assert reduce_label(label, (16, 24)) is label
    assert reduce_label(label, (32, 12)).shape == (2, 16, 12)


def test_each_output_meets_the_label_at_its_own_size() -> None:
    label = torch.randint(0, 3, (2, 33, 47), dtype=torch.uint8)
    label[:, :9] = 255
    outputs = {
        "logits": torch.randn(2, 3, 5, 6, requires_grad=True),
        "aux_full": torch.randn(2, 3, 33, 47),
        "aux_half": torch.randn(2, 3, 17, 24),
    }
    criterion = CrossEntropyLoss()
    loss, parts = Supervision(criterion, {"aux_full": 0.5, "aux_half": 2.0})(outputs, label)
    for name, logits in outputs.items():
        torch.testing.assert_close(parts[name], criterion(logits, reduce_label(label, logits.shape[-2:])))
    torch.testing.assert_close(loss, parts["logits"] + 0.5 * parts["aux_full"] + 2 * parts["aux_half"])
    loss.backward()
    assert not outputs["logits"].grad[:, :, 0].any()  # the first row of cells lies in the ignored one
    assert outputs["logits"].grad[:, :, 2:].any()


def test_an_output_larger_than_the_label_is_an_error() -> None:
    with pytest.raises((ValueError, RuntimeError)):
        Supervision(CrossEntropyLoss())(
            {"logits": torch.randn(1, 3, 64, 64)}, torch.zeros(1, 32, 32, dtype=torch.uint8)
        )
