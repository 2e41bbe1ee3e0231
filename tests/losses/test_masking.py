"""One masking rule for every loss that ``conf/loss`` offers, in every precision and for both kinds of head."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.build import allowed
from src.build.instantiate import instantiate
from src.errors import UserError
from src.losses import Supervision
from tests.conftest import ROOT

LOSSES = sorted(path.stem for path in (ROOT / "conf/loss").glob("*.yaml"))
CASES = [(name, channels) for name in LOSSES for channels in (3, 1)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@cache
def _criterion(name: str, group: str = "loss", weights: str = "null") -> nn.Module:
    if any(word in name for word in ("dice", "focal", "lovasz")):
        pytest.importorskip("segmentation_models_pytorch")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"{group}={name}", f"data.class_weights={weights}", "run_dir=runs/x"])
    return instantiate(cfg[group], allowed.LOSS)


def _case(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits = 3 * torch.randn(2, channels, 24, 28)
    label = torch.randint(0, max(2, channels), (2, 6, 7)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    label = label.to(torch.uint8)
    label[:, :9] = 255
    label[1, :, 5:9] = 255
    return logits, label


@cache
def _takes_one_logit(name: str) -> bool:
    try:
        _criterion(name)(*_case(1))
    except UserError:
        return False
    return True


@pytest.fixture(autouse=True)
def _only_heads_that_the_loss_takes(request: pytest.FixtureRequest) -> None:
    """A loss that needs a logit per class says so itself, and then there is no case of one."""
    given = getattr(request.node, "callspec", None)
    if given and given.params.get("channels") == 1 and not _takes_one_logit(given.params["name"]):
        pytest.skip("this loss needs a logit per class")
    torch.manual_seed(0)


def _loss_and_gradient(name: str, logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    loss = _criterion(name)(leaf, label)
    loss.backward()
    return loss.detach(), leaf.grad


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_a_batch_without_valid_pixels_has_a_value_a_graph_and_no_gradient(name: str, channels: int) -> None:
    logits, label = _case(channels)
    loss, gradient = _loss_and_gradient(name, logits, torch.full_like(label, 255))
    assert loss.isfinite()
    assert loss.shape == ()
    assert not gradient.any()
    assert loss == 0 or name == "rmi"  # whose absent classes add a constant


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_logits_of_ignored_pixels_change_nothing(name: str, channels: int) -> None:
    logits, label = _case(channels)
    ignored = (label == 255)[:, None].expand_as(logits)
    other = torch.where(ignored, 50 * torch.randn_like(logits), logits)
    (loss, gradient), (same, others) = (_loss_and_gradient(name, each, label) for each in (logits, other))
    torch.testing.assert_close(loss, same)
    torch.testing.assert_close(gradient, others)
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_a_wholly_ignored_image_beside_others_has_no_gradient(name: str, channels: int) -> None:
    logits, label = _case(channels)
    label[1] = 255
    loss, gradient = _loss_and_gradient(name, logits, label)
    assert loss.isfinite()
    assert not gradient[1].any()
    assert gradient[0].any()
    if name not in ("rmi", "image_weighted_ce"):  # a mean over images and a sum over them
        alone, _ = _loss_and_gradient(name, logits[:1], label[:1])
        torch.testing.assert_close(loss, alone)


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_descending_the_gradient_lowers_the_loss_and_raises_the_accuracy(name: str, channels: int) -> None:
    logits, label = _case(channels)
    valid = label != 255

    def accuracy(logits: torch.Tensor) -> float:
        found = logits.argmax(1) if channels > 1 else (logits[:, 0] > 0)
        return (found == label)[valid].float().mean().item()

    before, gradient = _loss_and_gradient(name, logits, label)
    better = logits
    for _ in range(25):
        _, gradient = _loss_and_gradient(name, better, label)
        better = better - 0.6 * gradient / gradient.abs().max().clamp(min=1e-12)
    assert _criterion(name)(better, label) < before
    assert accuracy(better) > accuracy(logits) + 0.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "channels"), CASES)
def test_gradients_are_finite_in_every_precision(name: str, channels: int, dtype: torch.dtype) -> None:
    logits, label = _case(channels)
    for scale in (1.0, 100.0):
        leaf = (scale * logits).to(dtype).requires_grad_()
        supervision = Supervision(_criterion(name), {"aux_a": 0.4})
        with torch.autocast("cpu", dtype=dtype if dtype != torch.float32 else torch.bfloat16):
            loss, parts = supervision({"logits": leaf, "aux_a": leaf[..., ::2, ::2]}, label)
        loss.backward()
        assert {part.dtype for part in parts.values()} == {torch.float32}
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_label_of_another_size_is_an_error_and_not_broadcast(name: str) -> None:
    logits, label = _case(3)
    for wrong in (label[:1], label[:, :1], label[:, :, :1]):
        with pytest.raises((ValueError, RuntimeError)):
            _criterion(name)(logits, wrong)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_takes_one_logit_or_refuses_it_with_the_remedy(name: str) -> None:
    if _takes_one_logit(name):
        assert name not in ("cross_entropy", "ohem")
        return
    with pytest.raises(UserError, match=r"num_classes=1.*loss=bce"):
        _criterion(name)(*_case(1))


@pytest.mark.parametrize("name", ["cross_entropy", "bce", "ohem"])
def test_class_weights_of_the_data_reach_the_loss(name: str) -> None:
    logits, label = _case(3)
    plain, weighted = (_criterion(name, weights=weights) for weights in ("null", "[0.0,1.0,4.0]"))
    assert weighted(logits, label).item() != pytest.approx(plain(logits, label).item(), rel=1e-3)
    assert weighted(logits, label.where(label == 255, 0)).item() == 0  # a class of weight 0
    with pytest.raises(UserError, match="3 entries but there are 4 classes"):
        weighted(torch.cat([logits, logits[:, :1]], 1), label)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("[1.0,-1.0,1.0]", "0 or more"),
        ("[0.0,0.0,0.0]", "nothing to learn"),
        ("median_frequency", "class_weights=median_frequency must be a list"),
    ],
)
def test_class_weights_that_are_no_factors_are_refused(weights: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        _criterion("cross_entropy", weights=weights)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf/aux_loss").glob("*.yaml")))
def test_an_auxiliary_loss_is_the_main_one_of_that_name(name: str) -> None:
    logits, label = _case(3)
    assert _criterion(name, "aux_loss")(logits, label) == _criterion(name)(logits, label)
