"""Inference: identities that hold for any net."""

import pytest
import torch

from src.errors import UserError
from src.inference import Inference

torch.manual_seed(0)
NET = torch.nn.Conv2d(3, 4, 5, padding=2)


def net(image: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"logits": NET(image)}


def test_one_scale_is_the_plain_net() -> None:
    image = torch.randn(2, 3, 37, 50)
    assert torch.equal(Inference()(net, image), NET(image))


def test_the_mean_of_probabilities_is_the_softmax_of_the_scores() -> None:
    image = torch.randn(1, 3, 40, 48)
    scores = Inference(flip=True)(net, image)
    expected = (NET(image).softmax(1) + NET(image.flip(3)).flip(3).softmax(1)) / 2
    assert torch.allclose(scores.softmax(1), expected, atol=1e-6)


def test_a_mirrored_image_gives_the_mirrored_scores() -> None:
    image, both = torch.randn(1, 3, 40, 48), Inference(scales=(0.8, 1.0), flip=True)
    assert torch.allclose(both(net, image.flip(3)).flip(3), both(net, image), atol=1e-5)


def test_the_order_of_scales_does_not_matter() -> None:
    image = torch.randn(1, 3, 64, 64)
    assert torch.allclose(Inference([0.5, 1.0, 1.5])(net, image), Inference([1.5, 0.5, 1.0])(net, image), atol=1e-5)


def test_half_size_comes_back_at_full_size() -> None:
    assert Inference([0.5])(net, torch.randn(1, 3, 75, 101)).shape == (1, 4, 75, 101)


@pytest.mark.parametrize("scales", [[], [0.0], [-1.0, 1.0]])
def test_impossible_scales_are_refused(scales: list[float]) -> None:
    with pytest.raises(UserError, match=r"inference\.scales"):
        Inference(scales)
