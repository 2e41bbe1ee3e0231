"""BiSeNetV2: every switch runs, costs agree with the published ones, and wrong arguments are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.errors import UserError
from src.models import BiSeNetV2
from src.models.backbones import create_backbone
from tests.models.meta import on_meta

REFERENCE = {"expand_at": "depthwise", "depthwise_relu": True, "context_norm": True, "head_channels": 1024}


def giga_macs(trunk: str | None = None, height: int = 512, **options: object) -> dict[str, float]:
    """Multiply-adds (1e9) of one image, twice as wide as high, with 19 classes: in all and by part."""
    with on_meta():
        backbone = create_backbone(trunk) if trunk else None
        net = BiSeNetV2(num_classes=19, backbone=backbone, **options).eval()
        image = torch.empty(1, 3, height, 2 * height)
    with on_meta(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image)
    counts = {name.rpartition(".")[2]: sum(ops.values()) / 2e9 for name, ops in counter.get_flop_counts().items()}
    return counts | {"all": counts["Global"]}


def small(**options: object) -> BiSeNetV2:
    return BiSeNetV2(**{"num_classes": 3, "width_multiplier": 0.25} | options)


def test_cost_of_the_parts() -> None:
    macs = giga_macs()
    assert macs["detail"] == pytest.approx(11.70, abs=0.005)
    assert macs["semantic"] == pytest.approx(4.36, abs=0.005)
    assert macs["aggregate"] == pytest.approx(1.74, abs=0.005)
    assert macs["detail"] + macs["semantic"] + macs["aggregate"] == pytest.approx(17.80, abs=0.005)
    assert giga_macs(**REFERENCE)["semantic"] == pytest.approx(1.34, abs=0.005)
    assert giga_macs(**REFERENCE)["all"] == pytest.approx(24.60, abs=0.005)


@pytest.mark.parametrize(
    ("options", "published", "tolerance"),
    [
        pytest.param({}, 21.15, 0.03, id="paper"),
        *(
            pytest.param({"expansion": e}, giga, 0.06, id=f"expansion-{e}")
            for e, giga in ((1, 17.78), (2, 18.45), (4, 19.80), (8, 22.49))
        ),
        *(
            pytest.param({"depth_multiplier": d}, giga, 0.08, id=f"depth-{d}")
            for d, giga in ((2, 25.26), (3, 29.38), (4, 33.50))
        ),
        *(
            pytest.param({"channel_ratio": r}, giga, 0.4, id=f"ratio-{r}")
            for r, giga in ((1 / 2, 25.84), (1 / 8, 19.93), (1 / 16, 19.61))
        ),
        pytest.param({"fusion": "sum"}, 20.77, 0.2, id="sum"),
        pytest.param({"fusion": "concat"}, 21.98, 0.2, id="concat"),
        pytest.param({"fusion": "detail", "aux_channels": {}}, 15.26, 0.2, id="detail"),
        pytest.param({"fusion": "semantic"}, 7.63, 0.2, id="semantic"),
        pytest.param({"width_multiplier": 2.0}, 85.94, 2.1, id="width-2"),
        pytest.param({"width_multiplier": 2.0, "depth_multiplier": 3}, 118.51, 2.3, id="large"),
    ],
)
def test_costs_agree_with_the_paper(options: dict[str, object], published: float, tolerance: float) -> None:
    """The paper's ablations and large models in G multiply-adds; it does not give head widths, hence the tolerances."""
    assert giga_macs(**options)["all"] == pytest.approx(published, abs=tolerance)


def test_another_trunk_costs_what_it_costs_alone() -> None:
    """Detail branch, aggregation and head stay; the paper gives 143.34 G with ResNet-18, but no image size."""
    macs = giga_macs("resnet18")
    assert macs["backbone"] == pytest.approx(18.95, abs=0.005)
    assert macs["semantic"] == pytest.approx(0.302, abs=0.001)  # the context embedding at its width
    own = giga_macs()
    assert macs["all"] - macs["backbone"] - macs["semantic"] == pytest.approx(own["all"] - own["semantic"], abs=1e-3)
    assert giga_macs("resnet18", height=1024)["all"] == pytest.approx(143.34, abs=1.0)


@pytest.mark.parametrize(
    "options",
    [
        *({"fusion": fusion} for fusion in ("sum", "concat", "semantic")),
        {"fusion": "detail", "aux_channels": {}},
        {"expand_at": "depthwise"},
        {"expand_at": "depthwise", "depthwise_relu": True},
        {"depthwise_relu": True},
        {"context_norm": True},
        {"upsample": "nearest", "fusion_relu": True},
        {"gate_bias": True},
        {"aux_channels": {"s5_5": [8]}},
        {"aux_channels": {"s2": [8, 16], "s5_4": [8, 16]}, "aux_upsample": True},
        {"dropout": 0.5, "head_channels": 64},
        {"zero_init_residual": True},
        {"in_channels": 5, "expansion": 1, "channel_ratio": 0.5, "depth_multiplier": 1.5},
    ],
    ids=str,
)
def test_switches_run_forward_and_backward(options: dict[str, object]) -> None:
    net = small(**options)
    result = net(torch.randn(2, net.in_channels, 64, 64))
    assert set(result) == {"logits"} | {f"aux_{stage}" for stage in net.aux_heads}
    sum(logits.square().mean() for logits in result.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("trunk", "options"),
    [
        ("mobilenetv2_035", {}),
        ("mobilenetv2_035", {"in_channels": 4, "context_norm": True, "aux_channels": {"s5_5": [8]}}),
        ("test_resnet", {"fusion": "semantic"}),
        ("test_resnet", {"fusion": "concat", "aux_upsample": True}),
        ("convnext_atto", {}),  # rounds sizes down
    ],
    ids=str,
)
def test_other_trunks_as_semantic_branch(trunk: str, options: dict[str, object]) -> None:
    net = small(backbone=create_backbone(trunk, in_channels=options.get("in_channels", 3)), **options)
    for size in ((64, 96), (97, 130)):
        result = net(torch.randn(2, net.in_channels, *size))
        assert {name: x.shape for name, x in result.items()} == dict.fromkeys(
            ["logits", *(f"aux_{stage}" for stage in net.aux_heads)], (2, 3, *size)
        )
    sum(logits.square().mean() for logits in result.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_another_trunk_keeps_its_weights() -> None:
    trunk = create_backbone("mobilenetv2_035")
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    after = small(backbone=trunk).backbone.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_trunk_without_the_strides_is_refused() -> None:
    with pytest.raises(UserError, match="the semantic branch needs a feature at stride 16"):
        small(backbone=create_backbone("resnet18", output_stride=8))


def test_decode_gives_each_head_its_own_resolution() -> None:
    image = torch.randn(2, 3, 65, 128)
    sizes = {name: tuple(x.shape[-2:]) for name, x in small().decode(image).items()}
    assert sizes.pop("features") == sizes.pop("logits") == (9, 16)
    assert sizes == {"aux_s2": (17, 32), "aux_s3": (9, 16), "aux_s4": (5, 8), "aux_s5_4": (3, 4)}
    doubled = small(aux_upsample=True).decode(image)
    assert doubled["aux_s5_4"].shape[-2:] == (6, 8)


def test_boosters_cost_nothing_at_inference() -> None:
    assert giga_macs()["all"] == giga_macs(aux_channels={})["all"]


def test_zero_init_makes_gather_layers_their_shortcuts() -> None:
    layer = small(zero_init_residual=True).eval().semantic.s3[1]
    x = torch.rand(1, 8, 6, 6)
    assert torch.equal(layer(x), x)
    assert not torch.equal(small().eval().semantic.s3[1](x), x)


def test_a_local_change_reaches_every_pixel_through_the_context() -> None:
    net = small().eval()
    image = torch.rand(1, 3, 64, 1600)  # wider than the receptive field of 719 pixels
    changed = image.clone()
    changed[..., :32] = 3.0
    with torch.no_grad():
        difference = net(image)["logits"] - net(changed)["logits"]
    assert difference[..., -32:].abs().max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "num_classes=0"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"expansion": 0}, "expansion=0"),
        ({"expansion": 2.5}, "expansion=2.5"),
        ({"depth_multiplier": 0.5}, "depth_multiplier=0.5"),
        ({"depth_multiplier": 1.2}, "depth_multiplier=1.2"),
        ({"channel_ratio": 0}, "channel_ratio=0"),
        ({"channel_ratio": -0.25}, "channel_ratio=-0.25"),
        ({"channel_ratio": 0.3}, "channel_ratio=0.3"),
        ({"channel_ratio": 1 / 64, "width_multiplier": 1.0}, "even"),
        ({"width_multiplier": 1.01}, "width_multiplier=1.01"),
        ({"width_multiplier": 0}, "width_multiplier=0"),
        ({"head_channels": 0}, "head_channels=0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"fusion": "bgaa"}, "Did you mean 'bga'"),
        ({"upsample": "bicubic"}, "upsample=bicubic"),
        ({"expand_at": "pointwise"}, "expand_at=pointwise"),
        ({"aux_channels": {"s6": [8]}}, "'s6'"),
        ({"aux_channels": {"s2": 8}}, "aux_channels.s2=8 must be a list"),
        ({"aux_channels": {"s2": []}}, "aux_channels.s2=[] must be a list"),
        ({"aux_channels": {"s2": [0]}}, "aux_channels.s2=[0] must be a list"),
        ({"fusion": "detail"}, "aux_channels=null"),
        ({"fusion": "detail", "aux_channels": {}, "backbone": nn.Identity()}, "backbone=null"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        small(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_on_one_image_is_refused_unless_norms_are_frozen_or_synchronised() -> None:
    image = torch.randn(1, 3, 64, 64)
    net = small()
    with pytest.raises(UserError, match="batch of 2 or more"):
        net(image)
    assert small(fusion="detail", aux_channels={})(image)["logits"].isfinite().all()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    assert "aux_s2" in net(image)
