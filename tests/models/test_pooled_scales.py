"""One net on several image scales, fused pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from src.build.from_config import build_net
from src.errors import UserError
from src.losses import CrossEntropyLoss, Supervision
from src.models import PooledScales
from src.models.checks import check_image
from src.models.net import Net
from tests.conftest import ROOT
from tests.models.meta import on_meta

K = 3


class TinyNet(Net):
    """Logits at 1/4 of the image, an auxiliary head at 1/2."""

    def __init__(self, *, reduced_labels: bool = False) -> None:
        super().__init__(num_classes=K, reduced_labels=reduced_labels)
        self.to_half, self.to_quarter = nn.Conv2d(3, K, 3, 2, 1), nn.Conv2d(K, K, 3, 2, 1)
        self.feature_channels = K

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        check_image(image, in_channels=3, min_size=self.min_size)
        half = self.to_half(image)
        outputs = {"features": half, "logits": 5 * self.to_quarter(half)}
        return outputs | ({"aux_half": half} if self.training else {})


@pytest.fixture
def net() -> TinyNet:
    return TinyNet()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 70, 83)


def _each(net: Net, image: Tensor, scales: list[float]) -> list[dict[str, Tensor]]:
    scaled = [F.interpolate(image, scale_factor=s, mode="bilinear") if s != 1 else image for s in scales]
    return [net.decode(x) for x in scaled]


def _resized(maps: list[Tensor], size: torch.Size) -> Tensor:
    return torch.stack([F.interpolate(x, size=tuple(size), mode="bilinear") for x in maps])


@pytest.mark.parametrize("fuse", ["max", "mean"])
@pytest.mark.parametrize("at", ["logits", "image"])
def test_every_output_is_fused_over_the_scales(net: TinyNet, image: Tensor, fuse: str, at: str) -> None:
    scales = [0.5, 1.0, 1.25]
    pooled = PooledScales(net=net, scales=scales, fuse=fuse, at=at)
    outputs, each = pooled.decode(image), _each(net, image, scales)
    assert outputs.keys() == {"features", "logits", "aux_half"}
    for name in ("logits", "aux_half"):
        size = (each[1][name] if at == "logits" else image).shape[-2:]
        maps = _resized([parts[name] for parts in each], size)
        expected = maps.amax(0) if fuse == "max" else maps.mean(0)
        torch.testing.assert_close(outputs[name], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(outputs["features"], each[1]["features"])


def test_mean_of_probabilities_is_what_softmax_gives_back(net: TinyNet, image: Tensor) -> None:
    scales = [0.5, 1.0, 1.25]
    pooled = PooledScales(net=net, scales=scales, fuse="mean_probabilities", at="image").eval()
    maps = _resized([parts["logits"] for parts in _each(net, image, scales)], image.shape[-2:])
    torch.testing.assert_close(pooled(image)["logits"].softmax(1), maps.softmax(2).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fuse", ["max", "mean", "mean_probabilities"])
def test_scale_one_alone_is_the_net(net: TinyNet, image: Tensor, fuse: str) -> None:
    outputs, expected = PooledScales(net=net, scales=[1.0], fuse=fuse)(image), net(image)
    assert outputs.keys() == expected.keys()
    for name in outputs:
        torch.testing.assert_close(outputs[name].softmax(1), expected[name].softmax(1))


def test_order_of_the_list_does_not_matter(net: TinyNet, image: Tensor) -> None:
    first, second = (PooledScales(net=net, scales=scales)(image) for scales in ([0.5, 0.75, 1], [1, 0.5, 0.75]))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_scale_is_put_out_in_training_where_it_is_supervised(net: TinyNet, image: Tensor) -> None:
    pooled = PooledScales(net=net, supervise=True)
    outputs, each = pooled.decode(image), _each(net, image, [0.5, 0.75, 1.0])
    for name, alone in zip(("aux_scale_050", "aux_scale_075", "aux_scale_100"), each, strict=True):
        assert torch.equal(outputs[name], alone["logits"])
    assert {x.shape[-2:] for x in pooled(image).values()} == {(70, 83)}
    assert pooled.eval()(image).keys() == {"logits"}


def test_reduced_labels_meet_each_scale_at_its_own_size(image: Tensor) -> None:
    net = TinyNet(reduced_labels=True)
    outputs = PooledScales(net=net, supervise=True)(image)
    assert outputs["aux_scale_050"].shape[-2:] == (9, 11)
    assert outputs["logits"].shape == outputs["aux_scale_100"].shape
    weights = {"aux_half": 0.5, "aux_scale_100": 1.0, "aux_scale_075": 1.0, "aux_scale_050": 1.0}
    label = torch.randint(0, K, (2, 70, 83), dtype=torch.uint8)
    loss, parts = Supervision(CrossEntropyLoss(), weights)(outputs, label)
    torch.testing.assert_close(loss, parts["logits"] + sum(weights[name] * parts[name] for name in weights))
    loss.backward()
    assert all(p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("scales", [[], [0.5], [1.0, 1.0], [1.0, 0.0], [1.0, -0.5]], ids=str)
def test_wrong_scales_are_refused(net: TinyNet, scales: list[float]) -> None:
    with pytest.raises(UserError, match="scales") as caught:
        PooledScales(net=net, scales=scales)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["fuse", "at"])
def test_unknown_words_are_refused(net: TinyNet, option: str) -> None:
    with pytest.raises(UserError, match=f"{option}=median"):
        PooledScales(net=net, **{option: "median"})


@pytest.mark.parametrize(("min_side", "scale", "least"), [(32, 0.5, 64), (16, 0.5, 32), (16, 0.3, 54)])
def test_scaled_images_have_a_smallest_side(net: TinyNet, min_side: int, scale: float, least: int) -> None:
    pooled = PooledScales(net=net, scales=[scale, 1.0], min_side=min_side).eval()
    assert pooled(torch.randn(1, 3, least, least + 1))["logits"].shape == (1, K, least, least + 1)
    if least > 32:
        with pytest.raises(
            UserError, match=f"{least - 1}x80 .* at scale {scale}, .* {min_side}x{min_side}; .* {least}x{least}"
        ) as caught:
            pooled(torch.randn(1, 3, least - 1, 80))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "wrapped", "aux"),
    [
        (["model=bisenetv2", "model/scales=average"], True, {"aux_s2", "aux_s3", "aux_s4", "aux_s5_4"}),
        (["model=deeplab_v2", "model/scales=max"], True, set()),
        (["model=deeplab_v2_kazuto"], True, {"aux_scale_050", "aux_scale_075", "aux_scale_100"}),
        (["model=deeplab_v2", "model/scales=msc"], True, {"aux_scale_050", "aux_scale_075", "aux_scale_100"}),
        (["model=deeplab_v2_kazuto", "model/scales=none"], False, set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_scales_around_any_model(overrides: list[str], wrapped: bool, aux: set[str]) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[*overrides, f"data.num_classes={K}"])
    with on_meta():
        net = build_net(cfg).train()
        outputs = net(torch.empty(2, 3, 97, 130))
    assert isinstance(net, PooledScales) == wrapped
    assert set(cfg.model.aux_weights) == {name for name in outputs if name.startswith("aux_")} == aux
