"""What is particular to nets with context on a dilated trunk: pooling, FCN heads, PSPNet, non-local."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.errors import UserError
from src.models import DilatedFCN, NonLocalNet, PSPNet
from src.models.adaptive_pooling import adaptive_avg_pool, pool_matrix
from src.models.backbones import create_backbone
from src.models.nonlocal_net import FORMS, NonLocalBlock
from src.models.pspnet import PyramidPooling

each_form = pytest.mark.parametrize("form", FORMS)


def _trunk(name: str = "resnet18", **options: Any) -> nn.Module:
    return create_backbone(name, **({"output_stride": 8} if name == "resnet18" else {}), **options)


def _fcn(name: str = "resnet18", **options: Any) -> DilatedFCN:
    return DilatedFCN(_trunk(name), num_classes=3, **{"channels": [8], "aux_channels": 4, **options})


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", [(1, 1), (5, 6), (12, 18), (13, 17)], ids=str)
@pytest.mark.parametrize("bins", [1, 2, 3, 6, 8])
def test_pooling_by_matrices_is_adaptive_average_pooling(bins: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    ours, theirs = adaptive_avg_pool(x, bins), F.adaptive_avg_pool2d(y, bins)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_pool_matrix_keeps_dtype_and_constants() -> None:
    matrix = pool_matrix(97, 6, torch.empty(0, dtype=torch.float64))
    assert matrix.dtype == torch.float64
    torch.testing.assert_close(matrix @ torch.ones(97, dtype=torch.float64), torch.ones(6, dtype=torch.float64))


def test_fcn_heads_read_the_last_two_features() -> None:
    net = _fcn().train()
    outputs = net.decode(torch.randn(2, 3, 65, 97))
    assert outputs["logits"].shape == outputs["aux_stage4"].shape == (2, 3, 9, 13)
    assert outputs["features"].shape == (2, 8, 9, 13)
    assert net.head.convs[0].conv.in_channels == 512
    assert net.aux_head.convs[0].conv.in_channels == 256


def test_an_auxiliary_head_may_be_left_out() -> None:
    nets = [
        _fcn(aux_channels=None),
        PSPNet(_trunk(), num_classes=3, pool_channels=4, channels=8, aux_channels=None),
        NonLocalNet(_trunk(), num_classes=3, channels=8, aux_channels=None),
    ]
    for net in nets:
        assert set(net.train()(torch.randn(2, 3, 64, 64))) == {"logits"}


def test_fcn_of_all_levels_reads_their_concatenation_at_a_quarter() -> None:
    net = _fcn("hrnet_w18_small", levels="all", kernel_size=1, bias=True, aux_channels=None, align_corners=True).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        maps, outputs = net.backbone(image), net.decode(image)
        maps = [F.interpolate(x, size=(17, 25), mode="bilinear", align_corners=True) for x in maps]
        expected = net.head(torch.cat(maps, dim=1))
    torch.testing.assert_close(outputs["logits"], expected)
    assert net.head.convs[0].conv.bias is not None
    assert net.head.convs[0].conv.in_channels == 16 + 32 + 64 + 128


def test_fcn_of_all_levels_works_on_any_trunk() -> None:
    assert _fcn(levels="all").head.convs[0].conv.in_channels == 64 + 128 + 256 + 512
    assert _fcn(levels="all").eval().decode(torch.randn(1, 3, 64, 96))["logits"].shape == (1, 3, 16, 24)


def test_fcn_classifier_alone_reads_the_trunk() -> None:
    net = _fcn(channels=[], dropout=0.0).eval()
    image = torch.randn(1, 3, 64, 64)
    outputs = net.decode(image)
    assert net.feature_channels == 512
    assert torch.equal(outputs["features"], net.backbone(image)[-1])
    assert torch.equal(outputs["logits"], net.head.classifier(outputs["features"]))


def test_fcn_concat_input_reads_the_trunk_again() -> None:
    net = _fcn(channels=[8, 6], concat_input=True).eval()
    image = torch.randn(1, 3, 64, 64)
    x = net.backbone(image)[-1]
    expected = net.merge(torch.cat([x, net.head.convs(x)], dim=1))
    assert torch.equal(net.decode(image)["features"], expected)
    assert expected.shape[1] == net.feature_channels == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": "al"}, "levels is 'al'"),
        ({"kernel_size": 2}, "kernel_size is '2'"),
        ({"channels": [8, 0]}, "channels is 0"),
        ({"channels": [], "concat_input": True}, "concat_input"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"aux_channels": 0}, "aux_channels is 0"),
        ({"num_classes": 0}, "num_classes is 0"),
    ],
    ids=str,
)
def test_fcn_refuses_what_it_cannot_do(options: dict[str, Any], words: str) -> None:
    arguments = {"num_classes": 3, **options}
    assert words in _refusal(lambda: DilatedFCN(_trunk(), **arguments))


@pytest.mark.parametrize("align_corners", [False, True])
def test_pyramid_pooling_is_the_papers(align_corners: bool) -> None:
    pyramid = PyramidPooling(6, 4, pool_sizes=[1, 3, 4], align_corners=align_corners).eval()
    x = torch.randn(2, 6, 9, 13)
    levels = [level(F.adaptive_avg_pool2d(x, size)) for size, level in zip((1, 3, 4), pyramid.levels, strict=True)]
    levels = [F.interpolate(y, size=(9, 13), mode="bilinear", align_corners=align_corners) for y in levels]
    torch.testing.assert_close(pyramid(x), torch.cat([x, *levels], dim=1))
    assert pyramid.out_channels == 6 + 3 * 4


def test_pyramid_of_one_pixel_cannot_train_on_one_image() -> None:
    net = PSPNet(_trunk(), num_classes=3, pool_sizes=[1, 2], pool_channels=4, channels=8).train()
    image = torch.randn(1, 3, 64, 64)
    assert "batch of 2" in _refusal(lambda: net(image))
    assert net.eval()(image)["logits"].shape == (1, 3, 64, 64)
    net.train().pyramid.levels[0].eval()  # frozen norms have nothing to estimate
    assert net(image)["logits"].isfinite().all()
    other = PSPNet(_trunk(), num_classes=3, pool_sizes=[2, 3], pool_channels=4, channels=8).train()
    assert other(image)["logits"].isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_pool_sizes_above_the_map_are_refused(training: bool) -> None:
    net = PSPNet(_trunk(), num_classes=3, pool_channels=4, channels=8).train(training)
    message = _refusal(lambda: net(torch.randn(2, 3, 40, 96)))
    assert "pool size 6 exceeds the feature map of 5x12" in message
    assert net(torch.randn(2, 3, 48, 96))["logits"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool_sizes": []}, "pool_sizes is empty"),
        ({"pool_sizes": [1, 0]}, "pool_sizes is 0"),
        ({"pool_channels": 0}, "pool_channels is 0"),
        ({"channels": 0}, "channels is 0"),
    ],
    ids=str,
)
def test_pspnet_refuses_what_it_cannot_do(options: dict[str, Any], words: str) -> None:
    assert words in _refusal(lambda: PSPNet(_trunk(), num_classes=3, **options))


def _block(channels: int = 8, **options: Any) -> NonLocalBlock:
    """A block that does something: its norm does not start at zero."""
    block = NonLocalBlock(channels, **options).eval()
    nn.init.uniform_(block.out.norm.weight, 0.5, 1.5)
    for part in (block.theta, block.phi, block.g):
        if part is not None:
            nn.init.normal_(part.bias)
    return block


def _pairwise(block: NonLocalBlock, x: Tensor) -> Tensor:
    """f(x_i, x_j) / C(x) of a block without sub-sampling, position by position as section 3.2 writes it."""
    x = x[0].flatten(1).T  # (N,C) of one image

    def embed(conv: nn.Conv2d) -> Tensor:
        return x @ conv.weight.flatten(1).T + conv.bias

    count, form = len(x), block.form
    theta, phi = (x, x) if form == "gaussian" else (embed(block.theta), embed(block.phi))
    scores = torch.stack([torch.stack([theta[i] @ phi[j] for j in range(count)]) for i in range(count)])
    if form == "dot_product":
        return scores / count
    if form == "concatenation":
        pairs = [torch.cat([theta[i], phi[j]]) for i in range(count) for j in range(count)]
        return (torch.stack(pairs) @ block.pair.weight.flatten()).relu().view(count, count) / count
    weights = (scores * theta.shape[1] ** -0.5 if block.scale else scores).exp()
    return weights / weights.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("attention", ["fused", "naive"])
@pytest.mark.parametrize("scale", [False, True])
@each_form
def test_non_local_block_is_the_papers(form: str, scale: bool, attention: str) -> None:
    block = _block(form=form, scale=scale, attention=attention)
    x = torch.randn(1, 8, 3, 4)
    with torch.no_grad():
        values = block.g(x)[0].flatten(1).T  # (N,D)
        y = (_pairwise(block, x) @ values).T.view(1, 4, 3, 4)
        torch.testing.assert_close(block(x), x + block.out(y), rtol=1e-4, atol=1e-5)


@each_form
def test_non_local_block_starts_as_the_identity(form: str) -> None:
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(NonLocalBlock(8, form=form).train()(x), x)


@pytest.mark.parametrize("subsample", [False, True])
@each_form
def test_fused_and_naive_attention_agree(form: str, subsample: bool) -> None:
    fused = _block(form=form, subsample=subsample)
    naive = _block(form=form, subsample=subsample, attention="naive")
    naive.load_state_dict(fused.state_dict())
    x, y = (torch.ones(2, 8, 7, 9).normal_(generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "xy")
    ours, theirs = fused(x), naive(y)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-4)


@each_form
def test_subsampling_loses_nothing_where_four_positions_are_one(form: str) -> None:
    plain, sampled = _block(form=form), _block(form=form, subsample=True)
    sampled.load_state_dict(plain.state_dict())
    x = F.interpolate(torch.randn(1, 8, 3, 4), scale_factor=2)
    torch.testing.assert_close(sampled(x), plain(x), rtol=1e-4, atol=1e-5)
    x = torch.randn(1, 8, 5, 7)
    assert sampled(x).shape == x.shape
    assert not torch.allclose(sampled(x), plain(x), atol=1e-3)


@pytest.mark.parametrize("form", ["embedded_gaussian", "dot_product"])
def test_fused_attention_does_not_keep_the_pairs(form: str) -> None:
    def largest(attention: str) -> int:
        sizes: list[int] = []
        x = torch.randn(1, 16, 24, 24, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            _block(16, form=form, attention=attention)(x)
        return max(sizes)

    assert largest("naive") == (24 * 24) ** 2
    assert largest("fused") == 16 * 24 * 24


def test_reduction_sets_the_inner_width() -> None:
    assert _block(8, reduction=4).g.out_channels == 2
    assert _block(2, reduction=4).g.out_channels == 1


def test_non_local_net_reads_the_trunk_twice() -> None:
    net = NonLocalNet(_trunk(), num_classes=3, channels=8).eval()
    nn.init.ones_(net.block.out.norm.weight)
    image = torch.randn(1, 3, 64, 96)
    x = net.backbone(image)[-1]
    expected = net.head(torch.cat([x, net.after(net.block(net.before(x)))], dim=1))
    torch.testing.assert_close(net.decode(image)["logits"], expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "gausian"}, "Did you mean 'gaussian'"),
        ({"attention": "flash"}, "attention is 'flash'"),
        ({"reduction": 0}, "reduction is 0"),
        ({"channels": 0}, "channels is 0"),
    ],
    ids=str,
)
def test_non_local_net_refuses_what_it_cannot_do(options: dict[str, Any], words: str) -> None:
    assert words in _refusal(lambda: NonLocalNet(_trunk(), num_classes=3, **options))
