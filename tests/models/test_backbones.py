"""Backbones: one contract for all trunks, and the options that change their convolutions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.errors import UserError
from src.models import DeepLabV3Plus
from src.models.backbones import create_backbone, level_of_stride
from src.models.hrnet import Exchange
from tests.models.meta import on_meta
from tests.models.parity import fused_by_factor

BACKBONES = [
    ("resnet18", 32),
    ("resnet18", 16),
    ("resnet26", 8),
    ("resnet50s", 8),
    ("seresnet50", 8),
    ("hrnet_w18_small", 32),
    ("mobilenetv2_050", 16),
    ("regnetx_002", 8),
    ("vit_tiny_patch16_224", 16),
]


def _features(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return backbone.eval()(image)


def _awake(backbone: nn.Module) -> nn.Module:
    """All norms scale by about 1; timm's residual blocks start as the identity."""
    for norm in (part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return backbone


def _twins(name: str, *, output_stride: int = 8, **option: Any) -> tuple[nn.Module, nn.Module]:
    """A backbone without and with the option, with the same weights."""
    plain, other = (create_backbone(name, output_stride=output_stride, **given) for given in ({}, option))
    other.load_state_dict(_awake(plain).state_dict(), strict=True)
    return plain.eval(), other.eval()


def _dilations(stage: nn.Module) -> list[int]:
    convs = [part for part in stage.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert all(conv.padding == conv.dilation for conv in convs)
    return [conv.dilation[0] for conv in convs]


def _refusal(**arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        create_backbone(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "output_stride"), BACKBONES, ids=str)
def test_features_have_the_stated_channels_and_strides(name: str, output_stride: int) -> None:
    with on_meta():
        backbone = create_backbone(name, output_stride=output_stride)
        features = _features(backbone, torch.randn(1, 3, 97, 130))
    assert [x.shape[1] for x in features] == backbone.channels
    assert [tuple(x.shape[2:]) for x in features] == [(-(-97 // s), -(-130 // s)) for s in backbone.strides]
    assert backbone.strides[-1] == output_stride
    assert backbone.strides == sorted(backbone.strides)
    assert len(features) >= 2


def test_images_may_have_other_channels() -> None:
    backbone = create_backbone("resnet18", in_channels=5)
    assert _features(backbone, torch.randn(1, 5, 64, 64))[-1].shape == (1, 512, 2, 2)


def test_a_transformer_gives_its_last_blocks() -> None:
    backbone = create_backbone("vit_tiny_patch16_224", output_stride=16)
    before = _features(backbone, torch.ones(1, 3, 64, 64))[-1]
    last = timm.create_model("vit_tiny_patch16_224").blocks[-1].state_dict()
    blocks = next(part for name, part in backbone.named_modules() if name.endswith("blocks"))
    assert len(blocks) == 12
    blocks[-1].load_state_dict(last)
    assert not torch.equal(before, _features(backbone, torch.ones(1, 3, 64, 64))[-1])


@pytest.mark.parametrize(
    ("output_stride", "third", "fourth"),
    [(32, [1, 1, 1, 1], [1, 1, 1, 1]), (16, [1, 1, 1, 1], [1, 2, 2, 2]), (8, [1, 2, 2, 2], [2, 4, 4, 4])],
)
def test_output_stride_dilates_the_last_stages(output_stride: int, third: list[int], fourth: list[int]) -> None:
    with torch.device("meta"):
        stages = create_backbone("resnet18", output_stride=output_stride).stages()
    assert [_dilations(stage) for stage in stages] == [[1] * 4, [1] * 4, third, fourth]


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_replaces_strides_exactly(output_stride: int) -> None:
    """The feature at output stride 32 is in the dilated one, every second or fourth position."""
    dilated, uniform = _twins("resnet26", output_stride=output_stride, contract_dilation=False)
    plain = create_backbone("resnet26")
    plain.load_state_dict(dilated.state_dict())
    image, step = torch.randn(1, 3, 97, 130), 32 // output_stride
    expected = _features(plain, image)[-1]
    torch.testing.assert_close(_features(dilated, image)[-1][:, :, ::step, ::step], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_features(uniform, image)[-1][:, :, ::step, ::step], expected, atol=1e-2)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [2] * 6 + [4] * 3), (16, [1] * 6 + [2] * 3)])
def test_contract_dilation_is_about_the_first_block(output_stride: int, rates: list[int]) -> None:
    def both(**option: Any) -> list[int]:
        with torch.device("meta"):
            stages = create_backbone("resnet50", output_stride=output_stride, **option).stages()
        return _dilations(stages[2]) + _dilations(stages[3])

    assert both(contract_dilation=False) == rates
    assert [i for i, pair in enumerate(zip(both(), rates, strict=True)) if pair[0] != pair[1]] == (
        [0, 6] if output_stride == 8 else [6]
    )


@pytest.mark.parametrize("contract_dilation", [True, False])
@pytest.mark.parametrize(("output_stride", "rates"), [(8, [4, 8, 16]), (16, [2, 4, 8]), (32, [1, 2, 4])])
def test_multi_grid_multiplies_the_rate_of_the_last_stage(
    output_stride: int, rates: list[int], contract_dilation: bool
) -> None:
    options = {"output_stride": output_stride, "contract_dilation": contract_dilation}
    with torch.device("meta"):
        gridded, plain = (create_backbone("resnet50", multi_grid=g, **options).stages() for g in ([1, 2, 4], None))
    assert _dilations(gridded[3]) == rates
    assert _dilations(gridded[2]) == _dilations(plain[2])


def test_stride_on_1x1_moves_the_stride_and_nothing_else() -> None:
    plain, caffe = _twins("resnet26", output_stride=16, stride_on_1x1=True)
    strides = [(s[0].conv1.stride[0], s[0].conv2.stride[0]) for s in plain.stages()]
    assert strides == [(1, 1), (1, 2), (1, 2), (1, 1)]
    assert [(s[0].conv1.stride[0], s[0].conv2.stride[0]) for s in caffe.stages()] == [(1, 1), (2, 1), (2, 1), (1, 1)]
    image = torch.randn(1, 3, 97, 130)
    before, after = _features(plain, image), _features(caffe, image)
    assert [x.shape for x in before] == [x.shape for x in after]
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-2)


def test_ceil_pool_keeps_the_last_row_and_column() -> None:
    plain, caffe = _twins("resnet18", ceil_pool=True)
    image = torch.randn(1, 3, 64, 96)
    assert [tuple(x.shape[2:]) for x in _features(plain, image)] == [(16, 24)] + [(8, 12)] * 3
    assert [tuple(x.shape[2:]) for x in _features(caffe, image)] == [(17, 25)] + [(9, 13)] * 3


@pytest.mark.parametrize(("size", "align_corners"), [((32, 32), False), ((33, 47), True), ((65, 97), False)], ids=str)
def test_hrnet_takes_any_size(size: tuple[int, int], align_corners: bool) -> None:
    backbone = create_backbone("hrnet_w18_small", align_corners=align_corners)
    features = _features(backbone, torch.randn(2, 3, *size))
    assert [tuple(x.shape) for x in features] == [
        (2, width, -(-size[0] // stride), -(-size[1] // stride))
        for width, stride in zip((16, 32, 64, 128), (4, 8, 16, 32), strict=True)
    ]


def test_hrnet_resizes_as_align_corners_says() -> None:
    plain, aligned = _twins("hrnet_w18_small", output_stride=32, align_corners=True)
    image = torch.randn(1, 3, 64, 96)
    assert not torch.allclose(_features(plain, image)[0], _features(aligned, image)[0], atol=1e-3)


def test_hrnet_is_timms_but_for_the_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = _awake(create_backbone("hrnet_w18_small"))
    theirs = timm.create_model("hrnet_w18_small", features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
    theirs.load_state_dict(backbone.trunk.state_dict(), strict=True)
    image = torch.randn(1, 3, 64, 96)
    expected = _features(theirs, image)
    assert not torch.allclose(_features(backbone, image)[0], expected[0], atol=1e-2)
    monkeypatch.setattr("src.models.hrnet.resize", lambda x, size, **_: F.interpolate(x, size))
    for x, y in zip(_features(backbone, image), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "align_corners"), [((97, 161), False), ((65, 97), True)], ids=str)
def test_upsample_by_factor_is_two_resizes(
    size: tuple[int, int], align_corners: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def naive(module: Exchange, *branches: Tensor) -> list[Tensor]:
        return fused_by_factor(module, *branches, align_corners=align_corners)

    plain, twice = (
        create_backbone("hrnet_w18_small", align_corners=align_corners, upsample_by_factor=by_factor)
        for by_factor in (False, True)
    )
    twice.load_state_dict(_awake(plain).state_dict())
    image = torch.randn(1, 3, *size)
    given, once = _features(twice, image), _features(plain, image)
    monkeypatch.setattr(Exchange, "forward", naive)
    for x, y, expected in zip(given, once, _features(plain, image), strict=True):
        assert (x - expected).abs().max() < 1e-5 * expected.std()
        assert (y - expected).abs().max() > 0.05 * expected.std()


def test_upsample_by_factor_changes_nothing_where_32_divides_the_size() -> None:
    plain, twice = _twins("hrnet_w18_small", output_stride=32, upsample_by_factor=True)
    image = torch.randn(1, 3, 64, 96)
    assert all(map(torch.equal, _features(plain, image), _features(twice, image)))


# Xception

XCEPTION = "legacy_xception"


def test_xception_at_output_stride_32_is_timms() -> None:
    backbone = _awake(create_backbone(XCEPTION))
    theirs = timm.create_model(XCEPTION, features_only=True, out_indices=(1, 2, 3, 4))
    theirs.body.load_state_dict(backbone.trunk.state_dict(), strict=False)
    assert (backbone.channels, backbone.strides) == (theirs.feature_info.channels(), theirs.feature_info.reduction())
    image = torch.randn(1, 3, 97, 130)
    assert all(map(torch.equal, _features(backbone, image), _features(theirs, image)))


@pytest.mark.parametrize(
    ("output_stride", "sizes", "rates"),
    [
        (32, [(23, 31), (12, 16), (6, 8), (3, 4)], [1] * 13),
        (16, [(23, 31), (12, 16), (6, 8), (6, 8)], [1] * 11 + [2] * 2),
        (8, [(23, 31), (12, 16), (12, 16), (12, 16)], [1] * 2 + [2] * 9 + [4] * 2),
    ],
)
def test_xception_has_rates_in_place_of_strides(
    output_stride: int, sizes: list[tuple[int, int]], rates: list[int]
) -> None:
    with on_meta():
        backbone = create_backbone(XCEPTION, output_stride=output_stride)
        assert [tuple(x.shape[2:]) for x in _features(backbone, torch.randn(1, 3, 97, 130))] == sizes
    assert [set(_dilations(block)) for block in backbone.blocks()] == [{rate} for rate in rates[:12]]
    assert _dilations(backbone.trunk.conv3) == _dilations(backbone.trunk.conv4) == rates[12:]


def test_linear_features_lack_what_follows_a_map() -> None:
    plain = _awake(create_backbone(XCEPTION)).eval()
    linear = create_backbone(XCEPTION, linear_features=True).eval()
    absent = linear.load_state_dict(plain.state_dict(), strict=False)
    assert absent.missing_keys == []
    assert {key.rpartition(".")[0] for key in absent.unexpected_keys} == {"trunk.bn4"}
    image = torch.randn(1, 3, 97, 130)
    expected, (*maps, last) = _features(plain, image), _features(linear, image)
    with torch.no_grad():
        maps.append(plain.trunk.bn4(last))
    assert all(x.min() < 0 for x in maps)
    for x, y in zip(maps, expected, strict=True):
        torch.testing.assert_close(F.relu(x), y)


@pytest.mark.parametrize(("output_stride", "least"), [(16, 71), (8, 103)])
def test_exit_padding_says_which_images_are_too_small(output_stride: int, least: int) -> None:
    with on_meta(), torch.no_grad():
        backbone = create_backbone(XCEPTION, output_stride=output_stride, exit_padding=1)
        net = DeepLabV3Plus(num_classes=2, backbone=backbone, aspp_channels=8, decoder_channels=[8]).eval()
        assert backbone(torch.randn(1, 3, least, least))[-1].shape[2:] == (1, 1)
        assert net(torch.randn(1, 3, least, least + 1))["logits"].shape == (1, 2, least, least + 1)
        with pytest.raises(UserError, match=f"at least {least}x{least} pixels, got {least + 1}x{least - 1}"):
            net(torch.randn(1, 3, least + 1, least - 1))


@pytest.mark.parametrize("name", ["resnet26", pytest.param("hrnet_w18_small", marks=pytest.mark.slow)])
def test_checkpointing_changes_no_gradient_and_no_statistic(name: str) -> None:
    plain, checkpointed = _twins(name, output_stride=32, checkpointing=True)
    image = torch.randn(2, 3, 64, 64)
    for backbone in (plain.train(), checkpointed.train()):
        sum(x.square().mean() for x in backbone(image)).backward()
    for (key, expected), given in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(given.grad, expected.grad, rtol=0, atol=0, msg=key)
    given = checkpointed.state_dict()
    for key, expected in plain.state_dict().items():
        assert torch.equal(given[key], expected), key
    assert given["trunk.bn1.num_batches_tracked"] == 1


def test_checkpointing_keeps_less_for_the_backward_pass() -> None:
    def kept(backbone: nn.Module) -> int:
        sizes: list[int] = []
        image = torch.randn(2, 3, 64, 64)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            backbone.train()(image)
        return sum(sizes)

    plain, checkpointed = create_backbone("resnet26"), create_backbone("resnet26", checkpointing=True)
    assert kept(checkpointed) < 0.6 * kept(plain)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "weights.pth"),
        ("hrnet_w18_small", "weights.pth"),
        ("mobilenetv2_050", "weights.pth"),
        ("mobilenetv2_050", "weights.safetensors"),
    ],
)
def test_pretrained_weights_come_from_a_file(name: str, file: str, tmp_path: Path) -> None:
    state = timm.create_model(name).state_dict()
    if file.endswith(".pth"):
        torch.save(state, tmp_path / file)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, tmp_path / file)
    own = create_backbone(name, pretrained=str(tmp_path / file)).trunk.state_dict()
    shared = own.keys() & state.keys()
    assert len(shared) == len(own)
    assert all(torch.equal(own[key], state[key]) for key in shared)


def test_a_missing_file_of_weights_is_named() -> None:
    assert "pretrained=/nowhere.pth: no such file" in _refusal(name="resnet18", pretrained="/nowhere.pth")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, file)
    message = _refusal(name="resnet18", pretrained=str(file))
    assert "pretrained weights of resnet18 could not be loaded" in message


@pytest.mark.parametrize("source", ["resnet18", "half"])
def test_a_file_that_leaves_a_trunk_random_is_refused(tmp_path: Path, source: str) -> None:
    """timm keeps silent where it leaves out a classifier."""
    file, name = tmp_path / "other.pth", "regnetx_002"
    state = timm.create_model(name if source == "half" else source).state_dict()
    torch.save(dict(list(state.items())[: len(state) // 2]) if source == "half" else state, file)
    message = _refusal(name=name, output_stride=8, pretrained=str(file))
    assert re.search(r"other\.pth: fits \d+ of the backbone's \d+ weight tensors; .*pretrained=<file>", message)


def test_without_a_network_the_user_hears_how_to_give_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("no name service")

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("src.hub.network.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    message = _refusal(name="resnet18", pretrained=True)
    assert "pretrained weights of resnet18 could not be loaded" in message
    assert "model.net.backbone.pretrained=<file>" in message
    assert "pretrained=false" in message
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet1O1"}, ["'resnet1O1'", "Did you mean 'resnet101"]),
        ({"name": "resnet18", "output_stride": 4}, ["output_stride is 4", "8, 16, 32"]),
        (
            {"name": "hrnet_w18_small", "output_stride": 8},
            ["output_stride=8 is needed", "hrnet_w18_small", "4, 8, 16, 32"],
        ),
        ({"name": "densenet121", "output_stride": 8}, ["output_stride=8 is needed", "densenet121", "4, 8, 16, 32"]),
        ({"name": "vit_tiny_patch16_224"}, ["output_stride=32 is needed", "strides 16, 16, 16"]),
        ({"name": "mobilenetv2_050", "multi_grid": [1, 2, 4]}, ["multi_grid", "mobilenetv2_050"]),
        ({"name": "hrnet_w18_small", "ceil_pool": True}, ["ceil_pool", "hrnet_w18_small"]),
        ({"name": "mobilenetv2_050", "checkpointing": True}, ["checkpointing", "mobilenetv2_050"]),
        ({"name": "resnet18", "upsample_by_factor": True}, ["upsample_by_factor", "resnet18"]),
        ({"name": "xception65", "linear_features": True}, ["linear_features", "xception65"]),
        ({"name": "resnet18", "exit_padding": 1}, ["exit_padding", "resnet18"]),
        ({"name": "resnet50", "multi_grid": [1, 2]}, ["multi_grid is [1, 2]", "3 blocks"]),
        ({"name": "resnet50", "multi_grid": [1, 0, 2]}, ["multi_grid is [1, 0, 2]"]),
        ({"name": "resnet18", "stride_on_1x1": True}, ["stride_on_1x1", "bottleneck"]),
    ],
    ids=str,
)
def test_what_a_trunk_cannot_do_is_refused_in_one_sentence(arguments: dict[str, Any], words: list[str]) -> None:
    message = _refusal(**arguments)
    assert [word for word in words if word not in message] == []


def test_level_of_stride_is_the_deepest_there() -> None:
    backbone = create_backbone("resnet18", output_stride=8)
    assert level_of_stride(backbone, 4, "a head") == 0
    assert level_of_stride(backbone, 8, "a head") == 3
    with pytest.raises(UserError, match="a head needs a feature at stride 16, but the backbone has strides 4, 8, 8, 8"):
        level_of_stride(backbone, 16, "a head")


def test_checkpointing_runs_under_compile() -> None:
    backbone = create_backbone("test_resnet", checkpointing=True).train()
    features = torch.compile(backbone, backend="aot_eager")(torch.randn(2, 3, 64, 64))
    sum(x.mean() for x in features).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert {int(b) for name, b in backbone.named_buffers() if name.endswith("num_batches_tracked")} == {1}
