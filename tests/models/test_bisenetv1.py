"""BiSeNetV1: costs are those of the public implementation, every switch runs, wrong arguments are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.errors import UserError
from src.models import BiSeNetV1
from src.models.backbones import create_backbone
from tests.models.meta import on_meta


def small(trunk: str = "test_resnet", **options: object) -> BiSeNetV1:
    arguments = {"num_classes": 3, "channels": 16} | options
    return BiSeNetV1(backbone=create_backbone(trunk, in_channels=arguments.get("in_channels", 3)), **arguments)


def test_costs() -> None:
    """The counts of CoinCheung/BiSeNet with 19 classes, and of the published model at 768x1536."""
    with on_meta():
        net = small("resnet18", num_classes=19, channels=128)
        assert sum(p.numel() for name, p in net.named_parameters() if not name.startswith("aux")) == 13_275_539
        for height, training, giga in ((512, False, 29.59), (512, True, 30.35), (768, False, 66.57)):
            net.train(training)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                net(torch.empty(1 + training, 3, height, 2 * height))
            assert counter.get_total_flops() / 2e9 / (1 + training) == pytest.approx(giga, abs=0.006)


@pytest.mark.parametrize(
    "options",
    [
        {"upsample": "bilinear"},
        {"gate": "bottleneck"},
        {"in_channels": 4},
        {"trunk": "resnet26"},
        {"trunk": "mobilenetv2_035"},
    ],
    ids=str,
)
def test_switches_run_forward_and_backward(options: dict[str, object]) -> None:
    net = small(**options)
    result = net(torch.randn(2, net.in_channels, 64, 96))
    assert set(result) == {"logits", "aux_16", "aux_32"}
    sum(logits.square().mean() for logits in result.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_decode_gives_each_head_its_own_resolution() -> None:
    sizes = {name: tuple(x.shape[-2:]) for name, x in small().decode(torch.randn(2, 3, 65, 128)).items()}
    assert sizes == {"features": (9, 16), "logits": (9, 16), "aux_16": (9, 16), "aux_32": (5, 8)}


def test_only_global_averages_reach_every_pixel() -> None:
    net = small().eval()
    image = torch.rand(1, 3, 64, 1600)  # far wider than the trunk sees
    changed = image.clone()
    changed[..., :32] = 3.0

    def far() -> float:
        with torch.no_grad():
            return float((net(image)["logits"] - net(changed)["logits"])[..., -32:].abs().max())

    assert far() > 0
    context = net.context
    for norm in (context.pooled.norm, context.refine16.gate.norm, context.refine32.gate.norm, net.fuse.gate.norm):
        nn.init.zeros_(norm.weight)  # what is left is the same for every image
    assert far() == 0


def test_a_closed_gate_leaves_the_projected_paths() -> None:
    fuse = small().eval().fuse
    nn.init.zeros_(fuse.gate.norm.weight)
    nn.init.constant_(fuse.gate.norm.bias, -100.0)
    spatial, context = torch.randn(2, 1, 16, 8, 8)
    with torch.no_grad():
        projected = fuse.project(torch.cat([spatial, context], dim=1))
        torch.testing.assert_close(fuse(spatial, context), projected)
        nn.init.constant_(fuse.gate.norm.bias, 100.0)
        torch.testing.assert_close(fuse(spatial, context), 2 * projected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "num_classes=0"),
        ({"channels": 6}, "channels is 6; use a multiple of 4"),
        ({"channels": 0}, "channels=0"),
        ({"upsample": "bicubic"}, "upsample=bicubic"),
        ({"gate": "norms"}, "Did you mean 'norm'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        small(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trunk_without_the_strides_is_refused() -> None:
    with pytest.raises(UserError, match="BiSeNetV1 needs a feature at stride 32"):
        BiSeNetV1(num_classes=3, backbone=create_backbone("resnet18", output_stride=16))


def test_training_on_one_image_is_refused_unless_norms_are_frozen() -> None:
    net, image = small(), torch.randn(1, 3, 64, 64)
    with pytest.raises(UserError, match="batch of 2 or more"):
        net(image)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    assert "aux_16" in net(image)
