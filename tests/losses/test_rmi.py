"""Region mutual information: golden values, the published check values, and what must not stop a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src.errors import UserError
from src.losses import BCELoss, RMILoss
from src.losses.supervision import Supervision
from tests.conftest import ROOT

ZJU = {"pool": "max", "pool_size": 3, "pool_stride": 3, "pool_padding": 1}
GOLDEN = {
    "nvidia": RMILoss(),
    "nvidia_without_rmi_term": BCELoss(),
    "zju_lambda_way_1": RMILoss(**ZJU),
    "zju_lambda_way_0": RMILoss(**ZJU, lambda_way=0),
}


def _case(classes: int = 4, size: tuple[int, int] = (24, 36)) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(2, classes, *size)
    label = torch.randint(0, max(2, classes), (2, size[0] // 4, size[1] // 4))
    label = label.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    label[:, :5] = 255
    return logits, label


@pytest.mark.parametrize("variant", GOLDEN)
def test_values_and_gradients_are_those_of_the_sources(variant: str) -> None:
    golden = np.load(ROOT / "tests/golden/losses/rmi_a.npz")
    logits = torch.from_numpy(golden["logits"]).requires_grad_()
    loss = GOLDEN[variant](logits, torch.from_numpy(golden["labels"]))
    loss.backward()
    expected = golden[f"grad_{variant}"]  # every fifth
    assert loss.item() == pytest.approx(float(golden[f"loss_{variant}"]), rel=1e-5)
    assert np.abs(logits.grad.numpy().ravel()[::5] - expected).max() < 1e-4 * np.abs(expected).max()


def _textbook(logits: torch.Tensor, label: torch.Tensor, radius: int) -> torch.Tensor:
    """The mutual information term without pooling, with nothing done to save memory or to save a bad matrix."""
    total = 0.0
    height, width = (side - radius + 1 for side in logits.shape[-2:])
    for image, truth in zip(logits.double(), label, strict=True):
        for channel, scores in enumerate(image):
            probs = scores.sigmoid() * (truth != 255) + 1e-6
            y, p = (
                torch.stack([m[i : i + height, j : j + width].flatten() for i in range(radius) for j in range(radius)])
                for m in ((truth == channel).double(), probs)
            )
            y, p = y - y.mean(1, keepdim=True), p - p.mean(1, keepdim=True)
            eye = 5e-4 * torch.eye(radius**2, dtype=torch.float64)
            rest = y @ y.T - y @ p.T @ torch.linalg.inv(p @ p.T + eye) @ p @ y.T
            total = total + torch.logdet(rest + eye) / 2
    return total / len(logits) / radius**2


@pytest.mark.parametrize("radius", [2, 3, 4])
def test_without_pooling_it_is_the_formula_for_any_radius(radius: int) -> None:
    logits, label = _case()
    mine, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    RMILoss(pool="none", radius=radius, weight_lambda=0)(mine, label).backward()
    _textbook(plain, label, radius).backward()
    torch.testing.assert_close(mine.grad, plain.grad, rtol=1e-4, atol=1e-4 * plain.grad.abs().max().item())


def test_classes_are_taken_in_parts_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, label = _case(classes=5)
    results = []
    for budget in (1, 1 << 30):
        monkeypatch.setattr("src.losses.rmi._BYTES_AT_ONCE", budget)
        leaf = logits.clone().requires_grad_()
        loss = RMILoss()(leaf, label)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(*results)


def test_little_is_kept_for_the_gradient() -> None:
    logits = torch.randn(1, 9, 64, 96, requires_grad=True)
    label = torch.randint(0, 9, (1, 64, 96))
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        RMILoss()(logits, label)
    for given in (logits, label):
        kept.pop(given.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) < logits.numel() * 4  # one stack of windows alone is 9/16 * 2 of it in float64


def test_an_absent_class_adds_a_constant() -> None:
    everything_ignored = torch.full((1, 32, 32), 255)
    for classes, expected in ((1, -3.8005 / 2), (19, -36.104)):
        logits = torch.randn(1, classes, 32, 32, requires_grad=True)
        loss = RMILoss()(logits, everything_ignored)
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=2e-5)
        assert not logits.grad.any()


@pytest.mark.parametrize("pool", ["average", "max", "resize", "none"])
def test_every_pooling_rewards_the_right_structure(pool: str) -> None:
    _, label = _case(classes=3)
    right = 6 * torch.nn.functional.one_hot(label.long() % 255, 3).permute(0, 3, 1, 2).float() - 3
    criterion = RMILoss(pool=pool)
    assert criterion(right, label) < criterion(right.roll(1, dims=1), label) - 1


def test_one_logit_is_class_1_against_class_0() -> None:
    logits, label = _case(classes=1)
    both = torch.cat([torch.full_like(logits, -1e4), logits], 1)  # class 0 adds what does not depend on the logits
    ours, theirs = (RMILoss(weight_lambda=0)(x, label) for x in (logits, both))
    constant = RMILoss(weight_lambda=0)(torch.full_like(logits, -1e4), torch.where(label < 255, 1 - label, label))
    assert ours.item() == pytest.approx((theirs - constant).item(), rel=1e-4)


def test_a_matrix_without_a_factor_falls_back_to_cross_entropy_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, label = _case()
    criterion = RMILoss()
    criterion(logits, label)
    assert criterion.fallbacks.item() == 0
    covariance = RMILoss._covariance
    monkeypatch.setattr(RMILoss, "_covariance", lambda *args: -covariance(*args))  # negative definite
    leaf, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, expected = criterion(leaf, label), BCELoss()(plain, label)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item())
    torch.testing.assert_close(leaf.grad, plain.grad)
    assert criterion.fallbacks.item() == 1


def test_jitter_grows_until_the_matrix_has_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, label = _case()
    covariance = RMILoss._covariance
    shift = 1e-3 * torch.eye(18, dtype=torch.float64)  # more than the jitter takes back, and less than its growth does
    monkeypatch.setattr(RMILoss, "_covariance", lambda *args: 0 * covariance(*args) - shift)
    criterion = RMILoss()
    leaf = logits.requires_grad_()
    loss = criterion(leaf, label)
    loss.backward()
    assert criterion.fallbacks.item() == 0
    assert loss.isfinite()
    assert loss.item() != pytest.approx(BCELoss()(logits, label).item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_reach_it(dtype: torch.dtype) -> None:
    logits, label = _case()
    half = logits.to(dtype).requires_grad_()
    expected = RMILoss()(half.detach().float(), label)
    with torch.autocast("cpu", dtype=dtype):
        loss = RMILoss()(half, label)
        through_supervision, _ = Supervision(RMILoss())({"logits": half}, label)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == through_supervision.item() == expected.item()
    assert half.grad.isfinite().all()


def test_float32_covariances_are_near_those_of_float64() -> None:
    logits, label = _case()
    single, double = (RMILoss(precision=precision)(logits, label) for precision in ("float32", "float64"))
    assert single.item() == pytest.approx(double.item(), rel=1e-2)


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        ((11, 40), {}, "11x40.*12.*crop_size"),
        ((24, 24), {"radius": 8}, "24x24.*8 after pooling"),
        ((24, 24), {"pool": "resize", "pool_stride": 9}, "3 after pooling"),
        ((12, 12), {"pool_size": 8, "pool_padding": 0}, "3 after pooling"),
    ],
)
def test_maps_that_are_too_small_are_refused(size: tuple[int, int], options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RMILoss(**options)(torch.randn(1, 3, *size), torch.zeros(1, *size, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool": "avrage"}, "Did you mean 'average'"),
        ({"radius": 0}, "loss.radius=0"),
        ({"pool_size": 2.5}, r"loss.pool_size=2\.5"),
        ({"pool_padding": 3}, "pool_padding=3.*pool_size=4"),
        ({"weight_lambda": 2}, "weight_lambda=2"),
        ({"lambda_way": 2}, "lambda_way=2"),
        ({"jitter": 0}, "jitter=0"),
        ({"precision": "half"}, "precision=half"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RMILoss(**options)
