"""DeepLab v1 and v2: variants, atrous convolution, sums over rates."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from src.build.from_config import build_net
from src.errors import UserError
from src.models import DeepLabV1, DeepLabV2
from src.models.backbones import create_backbone
from src.models.net import Net
from src.models.vgg import VGG16
from tests.conftest import ROOT

K = 4


def _dilated_vgg(*rates: int, **options: object) -> VGG16:
    return VGG16(**{"dilated": True, "fc6_kernel": 3, "fc6_rates": rates or (2,), "fc_channels": 8, **options})


def _from_yaml(model: str) -> Net:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"model={model}", "data.num_classes=21"])
    with torch.device("meta"):
        return build_net(cfg)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("deeplab_v1", 20_505_429),
        ("deeplab_v1_base", 65_140_565),
        ("deeplab_v1_4x4", 65_140_565),
        ("deeplab_v1_7x7", 134_346_581),
        ("deeplab_v2", 44_048_532),
        ("deeplab_v2_vgg", 37_877_652),
    ],
)
def test_parameters_are_as_many_as_published(model: str, params: int) -> None:
    assert sum(p.numel() for p in _from_yaml(model).parameters()) == params


@pytest.mark.parametrize(
    ("model", "cells"), [("deeplab_v1", 25), ("deeplab_v1_4x4", 25), ("deeplab_v1_7x7", 25), ("deeplab_v1_base", 13)]
)
def test_field_of_view_of_fc6(model: str, cells: int) -> None:
    """Three kernels see 25 cells, 200 pixels, and the base half as many; the output keeps its size."""
    fc6 = _from_yaml(model).backbone.fc[0].fc6
    conv = nn.Conv2d(1, 1, fc6.kernel_size, padding=fc6.padding, dilation=fc6.dilation, bias=False)
    nn.init.ones_(conv.weight)
    impulse = torch.zeros(1, 1, 41, 41)
    impulse[..., 20, 20] = 1
    seen = conv(impulse)[0, 0].nonzero()
    assert conv(impulse).shape == impulse.shape
    assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([20 - cells // 2] * 2, [20 + cells // 2] * 2)


def _space_to_batch(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Atrous convolution as a plain one on rate x rate shifted, subsampled maps."""
    rate, (height, width) = conv.dilation[0], x.shape[-2:]
    x = F.pad(x, (0, -width % rate, 0, -height % rate))
    batch, channels = x.shape[:2]
    shifted = x.unflatten(3, (-1, rate)).unflatten(2, (-1, rate))  # (B,C,h,rate,w,rate)
    shifted = shifted.permute(0, 3, 5, 1, 2, 4).reshape(batch * rate**2, channels, *shifted.shape[2:5:2])
    y = F.conv2d(shifted, conv.weight, conv.bias, padding=1)
    y = y.reshape(batch, rate, rate, *y.shape[1:]).permute(0, 3, 4, 1, 5, 2)  # (B,C',h,rate,w,rate)
    return y.flatten(4, 5).flatten(2, 3)[..., :height, :width]


def test_atrous_convolution_equals_space_to_batch() -> None:
    backbone = _dilated_vgg(12)
    net = DeepLabV2(num_classes=K, backbone=create_backbone("resnet18", output_stride=8), rates=[6, 12, 18, 24])
    for conv in (backbone.stages[4][0], backbone.fc[0].fc6, *net.classifiers):
        assert conv.dilation[0] > 1
        x = torch.randn(2, conv.in_channels, 29, 31)
        with torch.no_grad():
            torch.testing.assert_close(conv(x), _space_to_batch(conv, x), atol=1e-4, rtol=1e-4)


def test_scores_of_all_rates_are_summed() -> None:
    net = DeepLabV2(num_classes=K, backbone=create_backbone("resnet18", output_stride=8), rates=[2, 4, 8]).eval()
    image = torch.randn(1, 3, 65, 90)
    with torch.no_grad():
        together = net.decode(image)["logits"]
        parts = []
        for rate, classifier in zip([2, 4, 8], net.classifiers, strict=True):
            alone = DeepLabV2(num_classes=K, backbone=net.backbone, rates=[rate]).eval()
            alone.classifiers[0].load_state_dict(classifier.state_dict())
            parts.append(alone.decode(image)["logits"])
    torch.testing.assert_close(sum(parts), together)


def test_branches_of_vgg_are_summed() -> None:
    net = DeepLabV2(num_classes=K, backbone=_dilated_vgg(2, 4), rates=None).eval()
    image = torch.randn(1, 3, 64, 50)
    with torch.no_grad():
        outputs, parts = net.decode(image), []
        for branch, rate in enumerate((2, 4)):
            alone = DeepLabV2(num_classes=K, backbone=_dilated_vgg(rate), rates=None).eval()
            alone.backbone.stages = net.backbone.stages
            alone.backbone.fc[0].load_state_dict(net.backbone.fc[branch].state_dict())
            alone.classifiers[0].load_state_dict(net.classifiers[branch].state_dict())
            parts.append(alone.decode(image)["logits"])
    torch.testing.assert_close(sum(parts), outputs["logits"])
    assert outputs["features"].shape == (1, net.feature_channels, 8, 7)


def test_msc_branches_join_what_is_classified() -> None:
    """Without weight on the branches' channels the net is the plain one; with it, each branch counts."""
    plain = DeepLabV1(num_classes=K, backbone=_dilated_vgg()).eval()
    net = DeepLabV1(num_classes=K, backbone=plain.backbone, msc_channels=4).eval()
    image = torch.randn(1, 3, 81, 47)
    with torch.no_grad():
        net.classifier.weight[:, :8] = plain.classifier.weight
        net.classifier.weight[:, 8:] = 0
        torch.testing.assert_close(net(image)["logits"], plain(image)["logits"])
        for branch in range(5):  # on the image and pool1 to pool4
            net.classifier.weight[:, 8:] = 0
            net.classifier.weight[:, 8 + 4 * branch : 12 + 4 * branch] = 1
            assert not torch.allclose(net(image)["logits"], plain(image)["logits"])
    assert len(net.branches) == 5
    assert net.decode(image)["features"].shape == (1, 8 + 5 * 4, 11, 6)


def test_msc_widens_the_paper_net_by_640_channels() -> None:
    assert _from_yaml("deeplab_v1_msc").feature_channels == 1024 + 640


@pytest.mark.parametrize("reduced_labels", [True, False])
def test_outputs_keep_the_heads_size_in_training_alone(reduced_labels: bool) -> None:
    net = DeepLabV1(num_classes=K, backbone=_dilated_vgg(), reduced_labels=reduced_labels)
    image = torch.randn(1, 3, 65, 90)
    with torch.no_grad():
        assert net.train()(image)["logits"].shape[-2:] == ((9, 12) if reduced_labels else (65, 90))
        assert net.eval()(image)["logits"].shape[-2:] == (65, 90)


@pytest.mark.parametrize("rates", [pytest.param((2,), marks=pytest.mark.slow), (2, 4)])
def test_vgg_nets_train_and_export(rates: tuple[int, ...]) -> None:
    net = DeepLabV2(num_classes=K, backbone=_dilated_vgg(*rates, average_pool=True), rates=None)
    net(torch.randn(2, 3, 33, 47))["logits"].square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    free = {2: torch.export.Dim("height", min=33), 3: torch.export.Dim("width", min=33)}
    program = torch.export.export(net, (torch.randn(1, 3, 64, 96),), dynamic_shapes={"image": free}).module()
    image = torch.randn(1, 3, 33, 47)
    torch.testing.assert_close(program(image)["logits"], net(image)["logits"], atol=1e-4, rtol=1e-4)


def test_impossible_options_are_refused() -> None:
    with torch.device("meta"):
        vgg, resnet = _dilated_vgg(), create_backbone("resnet18", output_stride=8)
    with pytest.raises(UserError, match="null for VGG16"):
        DeepLabV2(num_classes=K, backbone=vgg)
    with pytest.raises(UserError, match="a list such as"):
        DeepLabV2(num_classes=K, backbone=resnet, rates=None)
    for rates in ([], [0], [1.5]):
        with pytest.raises(UserError, match="rates"):
            DeepLabV2(num_classes=K, backbone=resnet, rates=rates)
    with pytest.raises(UserError, match="msc_channels"):
        DeepLabV1(num_classes=K, backbone=vgg, msc_channels=0)
    with pytest.raises(UserError, match="num_classes"):
        DeepLabV1(num_classes=0, backbone=vgg)
