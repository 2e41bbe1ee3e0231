"""DeepLab v3 and v3+: rates against strides, cascade, image pooling, decoder, warnings; published and counted costs."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import pairwise

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from src.build.from_config import build_net
from src.errors import UserError
from src.models import DeepLabV3, DeepLabV3Plus
from src.models.aspp import ASPP, ImagePooling
from src.models.backbones import create_backbone
from src.models.deeplabv3plus import AtrousSeparableConv, Decoder
from src.models.net import Net
from tests.conftest import ROOT
from tests.models.meta import on_meta

K = 5


def small(net: type[Net] = DeepLabV3, *, trunk_stride: int = 16, checkpointing: bool = False, **options: object) -> Net:
    """The same weights, none of them trivial, whatever the strides."""
    torch.manual_seed(0)
    backbone = create_backbone("resnet26", output_stride=trunk_stride, multi_grid=[1, 2], checkpointing=checkpointing)
    built = net(num_classes=K, backbone=backbone, **({"aspp_channels": 16} | options))
    for part in built.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low in (
                (part.weight, 0.5),
                (part.running_var, 0.5),
                (part.bias, -0.5),
                (part.running_mean, -0.5),
            ):
                nn.init.uniform_(tensor, low, low + 1)
    return built.eval()


@torch.no_grad()
def logits(net: Net, image: Tensor) -> Tensor:
    return net.decode(image)["logits"]


# strides and rates


@pytest.mark.parametrize(("size", "depth"), [((64, 96), 4), ((65, 97), 6), ((75, 81), 4)], ids=str)
def test_a_finer_output_stride_computes_the_same_at_more_places(size: tuple[int, int], depth: int) -> None:
    image = torch.randn(1, 3, *size)
    options = {"cascade_depth": depth, "image_pooling": None}  # a mean would be over more places
    at_16, at_8 = (logits(small(trunk_stride=stride, **options), image) for stride in (16, 8))
    torch.testing.assert_close(at_8[..., ::2, ::2], at_16, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_cascade_strides_on_behind_a_trunk_at_32() -> None:
    image = torch.randn(1, 3, 160, 224)
    build = partial(small, trunk_stride=32, cascade_depth=7, aspp_channels=None)
    maps = [logits(build(output_stride=stride), image) for stride in (32, 64, 128, 256)]
    assert [tuple(x.shape[-2:]) for x in maps] == [(5, 7), (3, 4), (2, 2), (1, 1)]
    for finer, coarser in pairwise(maps):
        torch.testing.assert_close(finer[..., ::2, ::2], coarser, rtol=1e-3, atol=1e-3)


def test_rates_of_the_cascade_follow_block_and_multi_grid() -> None:
    with torch.device("meta"):
        units = [unit for block in small(cascade_depth=7).cascade for unit in block]
    assert [unit.conv2.dilation[0] for unit in units] == [4, 8, 8, 16, 16, 32]  # 2, 4, 8, 16 from block4 on, times 1, 2
    assert all(unit.downsample is None for unit in units)


@pytest.mark.parametrize("depth", [5, 7])
def test_a_new_cascade_passes_its_input_on(depth: int) -> None:
    shallow, deep = small(), small(cascade_depth=depth)
    for unit in (unit for block in deep.cascade for unit in block):
        nn.init.zeros_(unit.bn3.weight)
        nn.init.zeros_(unit.bn3.bias)
    assert not deep.load_state_dict(shallow.state_dict(), strict=False).unexpected_keys
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(logits(deep, image), logits(shallow, image))
    fresh = create_backbone("resnet26", output_stride=16).another_stage(4).eval()
    x = torch.rand(1, 2048, 4, 6)
    assert torch.equal(fresh(x), x)


@pytest.mark.parametrize(("stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_rates_are_doubled_at_output_stride_8(stride: int, rates: list[int]) -> None:
    for net in (DeepLabV3, DeepLabV3Plus):
        with torch.device("meta"):
            aspp = small(net, trunk_stride=stride).aspp
        assert aspp.rates == rates
        assert [branch.conv.dilation[0] for branch in aspp.atrous] == rates


def test_checkpointing_changes_no_gradient_of_the_cascade() -> None:
    image = torch.randn(2, 3, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        net = small(cascade_depth=5, aspp_channels=None, checkpointing=checkpointing).train()
        net(image)["logits"].square().mean().backward()
        gradients.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(*gradients)


# ASPP


def test_image_pooling_is_the_same_at_every_place_and_sees_them_all() -> None:
    pooling = ImagePooling(8, 6).eval()
    x = torch.randn(2, 8, 5, 7)
    pooled = pooling(x)
    assert pooled.shape == (2, 6, 5, 7)
    assert torch.equal(pooled, pooled[..., :1, :1].expand_as(pooled))
    torch.testing.assert_close(
        pooling(x.flatten(2)[..., torch.randperm(35)].unflatten(2, (7, 5)))[..., 0, 0], pooled[..., 0, 0]
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_image_pooling_in_a_window(align_corners: bool) -> None:
    torch.manual_seed(1)
    whole = ImagePooling(8, 6).eval()
    x = torch.randn(2, 8, 5, 7)
    for window, same in (((5, 7), True), ((9, 9), True), ((3, 7), False)):
        pooling = ImagePooling(8, 6, window=window, align_corners=align_corners).eval()
        pooling.load_state_dict(whole.state_dict())
        assert torch.allclose(pooling(x), whole(x), atol=1e-6) == same
    rows = whole.conv(F.unfold(x, (3, 7)).unflatten(1, (8, 21)).mean(2)[..., None])  # (2,6,3,1)
    expected = F.interpolate(rows, size=(5, 7), mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(pooling(x), expected)


def test_the_window_is_given_in_pixels_of_the_image() -> None:
    with torch.device("meta"):
        assert small(image_pooling_size=[513, 769]).aspp.pooling.window == (33, 49)
        assert small(DeepLabV3Plus, trunk_stride=8, image_pooling_size=[513, 769]).aspp.pooling.window == (65, 97)


def test_the_place_of_image_pooling_is_an_order_of_weights() -> None:
    last, first = (ASPP(8, 4, rates=[1, 2], image_pooling=place).eval() for place in ("last", "first"))
    state = last.state_dict()
    state["project.conv.weight"] = state["project.conv.weight"].roll(4, dims=1)
    first.load_state_dict(state)
    x = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(first(x), last(x))
    assert (
        sum(p.numel() for p in ASPP(8, 4, rates=[1, 2], image_pooling=None).parameters()) == 8 * 4 * 19 + 4 * 12 + 4 * 8
    )


def test_dropout_is_where_it_is_asked_for() -> None:
    with torch.device("meta"):
        net = small(aspp_dropout=0.5, dropout=0.25)
    assert (net.aspp.dropout.p, net.head.dropout.p) == (0.5, 0.25)
    x = torch.ones(2, 8, 6, 6)
    assert (ASPP(8, 4, rates=[1], dropout=0.9).train()(x) == 0).float().mean() > 0.7


# separable convolution and decoder


def test_atrous_separable_convolution_norms_and_rectifies_both_parts() -> None:
    conv = AtrousSeparableConv(4, 6, dilation=3).eval()
    x = torch.randn(1, 4, 9, 9)
    scale = (1 + 1e-5) ** -0.5  # of a new norm
    depthwise = F.relu(F.conv2d(x, conv.depthwise.conv.weight, padding=3, dilation=3, groups=4) * scale)
    expected = F.relu(F.conv2d(depthwise, conv.pointwise.conv.weight) * scale)
    torch.testing.assert_close(conv(x), expected)
    assert sum(p.numel() for p in conv.parameters()) == 4 * 9 + 2 * 4 + 4 * 6 + 2 * 6


def test_the_order_in_the_decoder_is_an_order_of_weights() -> None:
    build = partial(Decoder, 6, 8, projected_channels=3, channels=[4, 5])
    coarse_first, low_first = build().eval(), build(low_level_first=True).eval()
    state = coarse_first.state_dict()
    state["refine.0.conv.weight"] = state["refine.0.conv.weight"].roll(3, dims=1)
    low_first.load_state_dict(state)
    x, low_level = torch.randn(1, 6, 4, 5), torch.randn(1, 8, 15, 18)
    assert coarse_first(x, low_level).shape == (1, 5, 15, 18)
    torch.testing.assert_close(low_first(x, low_level), coarse_first(x, low_level))


def test_the_decoder_joins_each_level_and_ends_at_its_size() -> None:
    with on_meta():
        image = torch.randn(1, 3, 64, 96)
        one = small(DeepLabV3Plus, decoder_channels=[8])
        two = small(DeepLabV3Plus, decoder_channels=[8], low_levels=[1, 0])
        conv3 = small(DeepLabV3Plus, decoder_channels=[8], low_levels=[1])
        assert logits(one, image).shape == logits(two, image).shape == (1, K, 16, 24)
        assert logits(conv3, image).shape == (1, K, 8, 12)
    assert [decoder.project.conv.in_channels for decoder in two.decoder] == [512, 256]


def test_full_size_moves_the_last_resize_into_decode() -> None:
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = small(DeepLabV3Plus)(image)["logits"]
    assert torch.equal(logits(small(DeepLabV3Plus, full_size=True), image), expected)


# warnings


@pytest.mark.parametrize("net", [DeepLabV3, DeepLabV3Plus])
def test_rates_that_are_not_doubled_are_noted(net: type[Net]) -> None:
    with torch.device("meta"), pytest.warns(UserWarning, match="double"):
        small(net, trunk_stride=8, aspp_rates=[6, 12, 18])
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("error")
        small(net, trunk_stride=8, aspp_rates=[12, 24, 36])
        small(net, trunk_stride=16, aspp_rates=[6, 12, 18])


@pytest.mark.parametrize(("crop", "narrow"), [(321, True), (513, False), (769, False)])
def test_crops_are_noted_where_only_the_centre_weight_works(crop: int, narrow: bool) -> None:
    aspp = ASPP(2, 2, rates=[6, 12, 18])
    x = torch.randn(2, 2, (crop - 1) // 16 + 1, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aspp.eval()(x)
        if narrow:
            with pytest.raises(UserWarning, match="21x60 map"):
                aspp.train()(x)
        else:
            aspp.train()(x)


@pytest.mark.parametrize("net", [DeepLabV3, DeepLabV3Plus])
def test_sizes_that_shift_under_align_corners_are_noted(net: type[Net]) -> None:
    with on_meta(), warnings.catch_warnings():
        warnings.simplefilter("error")
        aligned = small(net, align_corners=True)
        with pytest.warns(UserWarning, match="65x97"):
            aligned(torch.randn(1, 3, 64, 96))
        aligned(torch.randn(1, 3, 65, 97))
        small(net)(torch.randn(1, 3, 64, 96))


# refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"aspp_rates": [0, 6]}, "aspp_rates"),
        ({"aspp_rates": []}, "aspp_rates"),
        ({"aspp_channels": 0}, "aspp_channels"),
        ({"image_pooling": "middle"}, "image_pooling"),
        ({"image_pooling_size": [0, 513]}, "image_pooling_size"),
        ({"image_pooling_size": [513]}, "image_pooling_size"),
        ({"projection_kernel": 2}, "projection_kernel"),
        ({"aspp_dropout": 1.0}, "aspp_dropout"),
        ({"aux_channels": 0}, "aux_channels"),
        ({"cascade_depth": 8}, "cascade_depth"),
        ({"cascade_depth": 5, "backbone": "mobilenetv2_050"}, "ResNet"),
        ({"output_stride": 64}, "block4"),
        ({"output_stride": 64, "cascade_depth": 5}, "backbone at 32"),
        ({"low_levels": []}, "low_levels"),
        ({"low_levels": [3]}, "from 0 to 2"),
        ({"low_levels": [0, 1]}, "coarse ones"),
        ({"low_level_channels": 0}, "low_level_channels"),
        ({"decoder_channels": []}, "decoder_channels"),
        ({"decoder_kernel_size": 2}, "decoder_kernel_size"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(options: dict[str, object], words: str) -> None:
    net = DeepLabV3Plus if any("level" in name or "decoder" in name for name in options) else DeepLabV3
    trunk = options.get("backbone", "resnet18")
    with torch.device("meta"):
        options = options | {"backbone": create_backbone(trunk, output_stride=16)}
    with torch.device("meta"), pytest.raises(UserError, match=words) as caught:
        net(**({"num_classes": K} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_stride": 12}, "8, 16, 32"),
        ({"multi_grid": [1, 2, 4]}, "2 blocks"),
        ({"multi_grid": [1, 0]}, "multi_grid"),
        ({"pad_block_inputs": True}, "MobileNetV2"),
    ],
    ids=str,
)
def test_wrong_trunks_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_backbone("resnet18", **options)


@pytest.mark.parametrize("size", [None, [65, 97]], ids=str)
def test_one_image_cannot_train_where_the_map_is_pooled_to_a_pixel(size: list[int] | None) -> None:
    image = torch.randn(1, 3, 65, 97)
    with pytest.raises(UserError, match="batch of 2"):
        small(image_pooling_size=size, aspp_rates=[1]).train()(image)
    small(image_pooling=None, aspp_rates=[1]).train()(image)


# costs, in 1e9 multiply-adds at 513x513 with 21 classes


def net_of(config: str, *overrides: str) -> Net:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"model={config}", "data.num_classes=21", "model/scales=none", *overrides])
    with on_meta():
        return build_net(cfg).eval()


def cost(config: str, stride: int, *overrides: str) -> float:
    net = net_of(config, f"model.net.backbone.output_stride={stride}", *overrides)
    with on_meta(), FlopCounterMode(display=False) as counter, torch.no_grad():
        net.decode(torch.empty(1, 3, 513, 513))
    return counter.get_total_flops() / 2e9


STANDARD = ("model.net.separable_aspp=false", "model.net.separable_decoder=false")


@pytest.mark.parametrize(
    ("stride", "overrides", "counted", "published"),
    [
        (16, (), 54.04, 54.17),
        pytest.param(8, (), 176.85, 177.10, marks=pytest.mark.slow),
        (16, STANDARD, 86.68, 89.76),
        pytest.param(8, STANDARD, 248.78, 262.59, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_costs_of_xception_65(stride: int, overrides: tuple[str, ...], counted: float, published: float) -> None:
    given = cost("deeplab_v3plus_xception65", stride, *overrides)
    assert given == pytest.approx(counted, abs=0.005)
    assert given == pytest.approx(published, rel=0.06 if overrides else 0.003)  # their trunk costs a little more


@pytest.mark.parametrize(("overrides", "counted"), [((), 41_055_413), (STANDARD, 54_711_461)], ids=str)
def test_parameters_of_xception_65(overrides: tuple[str, ...], counted: int) -> None:
    assert sum(p.numel() for p in net_of("deeplab_v3plus_xception65", *overrides).parameters()) == counted


@pytest.mark.parametrize(
    ("trunk", "stride", "published"),
    [
        ("resnet101", 8, 297.92 - 276.18),
        pytest.param("resnet101", 32, 74.20 - 52.43, marks=pytest.mark.slow),
        pytest.param("xception65", 16, 89.76 - 68.00, marks=pytest.mark.slow),
    ],
)
def test_the_decoder_costs_what_the_paper_says(trunk: str, stride: int, published: float) -> None:
    chosen = (f"model.net.backbone.name={trunk}", "model.net.backbone.multi_grid=null")
    assert cost("deeplab_v3plus", stride, *chosen) - cost("deeplab_v3", stride, *chosen) == pytest.approx(
        published, abs=0.02
    )


@pytest.mark.parametrize(
    ("config", "stride", "counted"),
    [
        ("deeplab_v3_kazuto", 16, 70.24),
        pytest.param("deeplab_v3_kazuto", 8, 245.78, marks=pytest.mark.slow),
        ("deeplab_v3plus_kazuto", 16, 92.00),
        pytest.param("deeplab_v3plus_kazuto", 8, 267.52, marks=pytest.mark.slow),
        ("deeplab_v3_vainf", 16, 71.70),
        pytest.param("deeplab_v3_vainf", 8, 248.67, marks=pytest.mark.slow),
        ("deeplab_v3plus_vainf", 16, 83.01),
        pytest.param("deeplab_v3plus_vainf", 8, 258.11, marks=pytest.mark.slow),
        ("deeplab_v3plus_vainf_mobilenet", 16, 16.82),
    ],
)
def test_costs_of_public_code(config: str, stride: int, counted: float) -> None:
    assert cost(config, stride) == pytest.approx(counted, abs=0.006)


def test_all_depths_of_the_cascade_at_all_strides_have_the_same_weights() -> None:
    shapes = [
        {name: tensor.shape for name, tensor in net_of("deeplab_v3_cascade", *overrides).state_dict().items()}
        for overrides in ([], ["model.net.backbone.output_stride=32", "model.net.output_stride=256"])
    ]
    assert shapes[0] == shapes[1]
    unit = [name for name in shapes[0] if name.startswith("cascade.0.0.")]
    assert len([name for name in shapes[0] if name.startswith("cascade.")]) == 9 * len(unit)
