"""ANN: costs are those of the paper and its code, identities between blocks hold, no full similarity is formed."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from src.errors import UserError
from src.models import ANN
from src.models.ann_layers import NonLocalBlock
from src.models.ann_samplers import SAMPLERS, Sampler
from src.models.backbones import create_backbone

MAP = (12, 10)


def block(*, widths: tuple[int, int] = (16, 16), sampler: Sampler | None = None, **options: object) -> NonLocalBlock:
    """Small, on one level unless widths differ, with an output that depends on attention."""
    arguments = {"key_channels": 8, "value_channels": 8, "zero_init": False} | options
    return NonLocalBlock(*widths, sampler=sampler, **arguments)


def small(trunk: str = "test_resnet", **options: object) -> ANN:
    arguments = {"num_classes": 3, "channels": 32, "key_channels": 8, "value_channels": 8, "aux_channels": 8}
    arguments |= {"sizes": [1, 2, 4]} | options
    return ANN(backbone=create_backbone(trunk, output_stride=8), **arguments)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# costs


def test_parameters_of_blocks_and_nets() -> None:
    with torch.device("meta"):
        assert parameters(NonLocalBlock(512, sampler=Sampler(), sharing="query_key")) == 920_576
        assert parameters(NonLocalBlock(2048, 1024, sampler=Sampler(), merge_act=False)) == 9_971_456
        trunk = create_backbone("resnet101s", output_stride=8, ceil_pool=True)
        assert parameters(trunk) == 42_623_936
        assert parameters(ANN(num_classes=19, backbone=trunk, aux_channels=None)) == 62_964_435
        assert parameters(ANN(num_classes=19, backbone=trunk)) == 67_694_310
        trunk = create_backbone("resnet101c", output_stride=8)
        net = ANN(num_classes=19, backbone=trunk, bias=False, aux_channels=None)
        assert parameters(net) - parameters(trunk) == 20_336_659  # mmsegmentation's head


@pytest.mark.parametrize(
    ("sizes", "count"), [([1], 1), ([1, 2], 5), ([1, 2, 3, 6], 50), ([1, 3, 6, 8], 110), ([1, 4, 8, 12], 225)]
)
def test_points_of_the_pyramids(sizes: list[int], count: int) -> None:
    for kind in ("pyramid_average", "pyramid_max", "pyramid_random"):
        sampler = Sampler(kind, sizes=sizes).eval()
        assert sampler.count == sampler(torch.rand(1, 2, 13, 17))[0].shape[2] == count


@pytest.mark.parametrize(
    ("size", "full", "asymmetric"),
    [((96, 96), 57.98, 15.01), ((97, 97), 60.13, 15.33), ((128, 128), 163.21, 26.69), ((128, 256), 601.30, 53.39)],
    ids=str,
)
def test_multiply_adds(size: tuple[int, int], full: float, asymmetric: float) -> None:
    """Of three 1x1 convolutions and two products, without pooling; a shared projection counts once."""

    def count(module: nn.Module, *maps: Tensor) -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(*maps)
        return counter.get_total_flops() / 2e9

    with torch.device("meta"):
        x, key = torch.empty(1, 2048, *size), torch.empty(1, 256, *size)
        for sampler, expected in ((None, full), (Sampler(), asymmetric)):
            module = NonLocalBlock(2048, sampler=sampler, sharing="query_key", merge="residual", attention="naive")
            pooling = 0 if sampler is None else count(sampler, key, key)
            assert count(module, x) - pooling == pytest.approx(expected, abs=0.006)


class Largest(TorchDispatchMode):
    """The largest number of elements that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            self.elements = max(self.elements, each.numel() if isinstance(each, Tensor) else 0)
        return result


def largest(module: nn.Module, high: Tensor, low: Tensor) -> int:
    with Largest() as mode:
        module(high, low).square().mean().backward()
    return mode.elements


@pytest.mark.parametrize("weights", ["softmax", "rescale", "none"])
def test_only_a_naive_full_block_forms_all_similarities(weights: str) -> None:
    high = torch.randn(1, 16, 24, 40, requires_grad=True)
    similarities = (24 * 40) ** 2
    low = high if weights == "softmax" else torch.randn(1, 12, 24, 40)
    widths = (16, low.shape[1])
    assert largest(block(widths=widths, weights=weights, attention="naive"), high, low) == similarities
    assert largest(block(widths=widths, weights=weights), high, low) < similarities / 10
    for kind, attention in itertools.product(SAMPLERS, ("naive", "fused")):
        sampler = Sampler(kind, sizes=[1, 3], points=10)
        asymmetric = block(widths=widths, sampler=sampler, weights=weights, attention=attention)
        assert largest(asymmetric, high, low) < similarities / 10


# identities


@pytest.mark.parametrize("attention", ["naive", "fused"])
@pytest.mark.parametrize("sampler", [Sampler(sizes=[MAP]), Sampler("max", points=120), Sampler("average", points=120)])
def test_identity_sampling_is_the_full_block(sampler: Sampler, attention: str) -> None:
    full, asymmetric = block(attention=attention).eval(), block(sampler=sampler, attention=attention).eval()
    asymmetric.load_state_dict(full.state_dict())
    x = torch.randn(2, 16, *reversed(MAP)) if sampler.grids[0] == (10, 12) else torch.randn(2, 16, *MAP)
    torch.testing.assert_close(asymmetric(x), full(x), rtol=1e-5, atol=1e-5)


def test_one_point_gives_all_positions_the_same_context() -> None:
    x = torch.randn(2, 16, *MAP)
    context = block(sampler=Sampler(sizes=[1])).eval().gather(x, x)
    torch.testing.assert_close(context, context[:, :, :1, :1].expand_as(context))
    assert not torch.allclose(context[0], context[1])


@pytest.mark.parametrize("options", [{}, {"merge": "residual"}, {"context_norm": True}, {"sharing": "all"}], ids=str)
def test_the_first_output_does_not_depend_on_attention(options: dict[str, object]) -> None:
    first = block(sampler=Sampler(sizes=[1, 3]), zero_init=True, **options)
    x = torch.randn(2, 16, *MAP)
    before = first(x)
    if options.get("merge") == "residual":
        assert torch.equal(before, x)
    for name in ("query", "key", "value"):
        for parameter in getattr(first, name, nn.Identity()).parameters():
            nn.init.normal_(parameter)
    after = first(x)
    assert torch.equal(after, before)
    after.square().mean().backward()
    trained = first.context_norm.weight if options.get("context_norm") else first.context.weight
    assert 0 < trained.grad.abs().max() < 100


@pytest.mark.parametrize("weights", ["softmax", "rescale", "none"])
@pytest.mark.parametrize("widths", [(8, 8), (8, 4), (4, 8)], ids=str)
@pytest.mark.parametrize("sampler", [None, Sampler(sizes=[1, 3])], ids=["full", "sampled"])
def test_fused_attention_equals_the_naive(weights: str, widths: tuple[int, int], sampler: Sampler | None) -> None:
    options = {"key_channels": widths[0], "value_channels": widths[1], "weights": weights, "sampler": sampler}
    blocks = [block(widths=(16, 12), attention=each, **options).eval().double() for each in ("naive", "fused")]
    blocks[1].load_state_dict(blocks[0].state_dict())
    high, low = torch.randn(2, 28, *MAP).double().split([16, 12], dim=1)
    outputs = [each(high, low) for each in blocks]
    torch.testing.assert_close(outputs[0], outputs[1])
    gradients = [
        torch.autograd.grad(out.square().mean(), list(each.parameters()))
        for out, each in zip(outputs, blocks, strict=True)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("weights", ["softmax", "rescale", "none"])
def test_the_block_follows_its_equations(weights: str) -> None:
    module = block(widths=(16, 12), sampler=Sampler(sizes=[1, 3]), weights=weights).eval()
    high, low = torch.randn(2, 16, 5, 7), torch.randn(2, 12, *MAP)  # N_h and N_l differ

    def sample(x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_avg_pool2d(x, size).flatten(2) for size in (1, 3)], dim=2)

    key, value = sample(module.key(low)), sample(module.value(low))
    similarity = torch.einsum("bdn,bds->bns", module.query(high).flatten(2), key) / 8**0.5
    functions = {"softmax": lambda v: v.softmax(dim=-1), "rescale": lambda v: v / 10, "none": lambda v: v}
    gathered = torch.einsum("bns,bes->ben", functions[weights](similarity), value).unflatten(2, (5, 7))
    expected = module.merge(torch.cat([module.context(gathered), high], dim=1))
    torch.testing.assert_close(module(high, low), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sharing", "modules"),
    [
        ("none", {"query", "key", "value"}),
        ("query_key", {"query", "value"}),
        ("key_value", {"query", "key"}),
        ("all", {"query"}),
    ],
)
def test_sharing(sharing: str, modules: set[str]) -> None:
    module = block(sharing=sharing, sampler=Sampler(sizes=[1, 3])).eval()
    assert {name.split(".")[0] for name, _ in module.named_parameters()} - {"context", "merge"} == modules
    separate = block(sampler=Sampler(sizes=[1, 3])).eval()
    separate.load_state_dict(module.state_dict(), strict=False)
    separate.key = module.key if sharing in ("none", "key_value") else module.query
    separate.value = module.value if sharing in ("none", "query_key") else separate.key
    high, low = torch.randn(2, 2, 16, *MAP)
    torch.testing.assert_close(module(high, low), separate(high, low))
    torch.testing.assert_close(module(high), separate(high))


# samplers


@pytest.mark.parametrize("size", [(97, 97), (13, 8), (5, 31), (6, 6)], ids=str)
def test_pools_are_those_of_torch(size: tuple[int, int]) -> None:
    grids, x = [(1, 1), (3, 3), (6, 6), (8, 2)], torch.randn(2, 3, *size)
    for kind, pool in (("average", F.adaptive_avg_pool2d), ("max", F.adaptive_max_pool2d)):
        expected = torch.cat([pool(x, grid).flatten(2) for grid in grids], dim=2)
        for _ in range(2):
            (points,) = Sampler(f"pyramid_{kind}", sizes=grids).eval()(x)
            torch.testing.assert_close(points, expected, rtol=1e-5, atol=1e-6)
        (points,) = Sampler(kind, points=12)(x)
        torch.testing.assert_close(points, pool(x, (3, 4)).flatten(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_random_positions(training: bool) -> None:
    index = torch.arange(13.0 * 20).view(1, 1, 13, 20).expand(2, 3, -1, -1)
    for kind in ("random", "pyramid_random"):
        sampler = Sampler(kind, points=40, sizes=[1, 2, 5]).train(training)
        first, double = sampler(index, 2 * index)
        assert torch.equal(double, 2 * first)  # the same positions in all maps
        assert torch.equal(first, first[:1, :1].expand_as(first))
        again, other = sampler(index)[0], Sampler(kind, points=40, sizes=[1, 2, 5], seed=1).train(training)(index)[0]
        assert torch.equal(first, again) is not training
        assert not torch.equal(first, other)
        positions = first[0, 0].long()
        if kind == "random":
            assert len(positions.unique()) == 40
        else:
            rows, columns = positions[5:] // 20, positions[5:] % 20  # of the 5x5 grid
            low, high = torch.arange(5) * 13 // 5, (torch.arange(1, 6) * 13 + 4) // 5
            for line, row in enumerate(rows.view(5, 5)):
                assert ((low[line] <= row) & (row < high[line])).all()
            assert torch.equal(columns.view(5, 5) // 4, torch.arange(5).expand(5, 5))


def test_random_positions_of_evaluation_are_spread() -> None:
    x = torch.arange(100.0 * 100).view(1, 1, 100, 100)
    for seed in range(3):
        positions = Sampler("random", points=2000, seed=seed).eval()(x)[0].flatten()
        for coordinate in (positions // 100, positions % 100):
            assert torch.histc(coordinate, 10, 0, 100).min() > 150  # 200 expected
        assert 900 < (positions % 2).sum() < 1100


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in ("pyramid_average", "random", None) else pytest.mark.slow)
        for kind in (*SAMPLERS, None)
    ],
)
def test_every_sampler_exports_with_free_sizes(kind: str | None) -> None:
    sampler = None if kind is None else Sampler(kind, sizes=[1, 3], points=6)
    module = block(sampler=sampler, weights="rescale" if kind is None else "softmax").eval()
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=3), 3: torch.export.Dim("width", min=3)}
    program = torch.export.export(module, (torch.randn(2, 16, 9, 11),), dynamic_shapes={"high": free})
    for size in ((1, 16, 4, 5), (3, 16, 13, 8)):
        x = torch.randn(size)
        torch.testing.assert_close(program.module()(x), module(x))


# the net


@pytest.mark.parametrize("fusion", ["afnb", "fnb", "common", None])
@pytest.mark.parametrize("refine", ["apnb", "nb", None])
def test_every_row_of_the_ablation_trains(fusion: str | None, refine: str | None) -> None:
    net = small(fusion=fusion, refine=refine)
    blocks = [each for each in (net.fusion, net.refine) if isinstance(each, NonLocalBlock)]
    assert len(blocks) == (fusion in ("afnb", "fnb")) + (refine is not None)
    assert [each.sampler is not None for each in blocks] == [
        x[0] == "a" for x in (fusion, refine) if x not in (None, "common")
    ]
    outputs = net(torch.randn(2, 3, 64, 96))
    assert set(outputs) == {"logits", "aux_stage4"}
    sum(logits.square().mean() for logits in outputs.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"merge": "residual"},
        {"context_norm": True, "bias": False},
        {"weights": "rescale", "attention": "naive"},
        {"weights": "none", "key_channels": 4},
        {"sharing": "all", "fusion_sharing": "key_value"},
        {"sampler": "random", "points": 7},
        {"sampler": "pyramid_max"},
        {"aux_stage": 2},
        {"aux_stage": 5},
        {"aux_channels": None},
        {"align_corners": False, "dropout": 0.0},
        {"trunk": "resnet18"},
    ],
    ids=str,
)
def test_switches_run_forward_and_backward(options: dict[str, object]) -> None:
    net = small(**options)
    outputs = net(torch.randn(2, 3, 64, 96))
    aux = set() if net.aux_head is None else {f"aux_stage{net.aux_stage}"}
    assert set(outputs) == {"logits"} | aux
    sum(logits.square().mean() for logits in outputs.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_common_fusion_only_adds() -> None:
    fuse = small("resnet26", fusion="common").fusion
    high, low = torch.randn(2, 2048, 4, 6), torch.randn(2, 1024, 8, 12)
    added = fuse(high, low) - high
    assert added.min() > -1e-5
    assert added.max() > 0


# refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fusion": "apnb"}, "fusion=apnb"),
        ({"fusion": "None"}, "fusion=None"),
        ({"refine": "afnb"}, "refine=afnb"),
        ({"sizes": []}, r"sizes is \[\]"),
        ({"sizes": [1, 0]}, r"sizes is \[1, 0\]"),
        ({"sizes": [1, 2.5]}, r"sizes=\[1, 2.5\]"),
        ({"sizes": [[1, 2, 3]]}, r"sizes is \[\[1, 2, 3\]\]"),
        ({"points": 0}, "points=0"),
        ({"sampler": "mean"}, "sampler is 'mean'"),
        ({"sharing": "key"}, "sharing=key"),
        ({"sharing": "key_value", "value_channels": 4}, "key_channels is 8 and value_channels is 4"),
        ({"fusion_sharing": "query_key"}, "reads 2048 channels and the key 1024"),
        ({"fusion_sharing": "all"}, "reads 2048 channels and the key 1024"),
        ({"weights": "sigmoid"}, "weights=sigmoid"),
        ({"merge": "sum"}, "merge=sum"),
        ({"attention": "flash"}, "attention=flash"),
        ({"key_channels": 0}, "key_channels=0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"aux_stage": 6}, "aux_stage is 6.*stages 2 to 5"),
        ({"aux_stage": 1}, "aux_stage is 1.*stages 2 to 5"),
        ({"aux_channels": 0}, "aux_channels=0"),
        ({"channels": 0}, "channels=0"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, object], words: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=words) as caught:
        small("resnet26", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"context_channels": 8}, {"out_channels": 8}], ids=str)
def test_a_residual_of_other_width_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="merge is 'residual', but the map has 16 channels"):
        block(merge="residual", **options)
    assert block(**options)(torch.randn(2, 16, *MAP)).shape == (2, options.get("out_channels", 16), *MAP)


@pytest.mark.parametrize(
    ("high", "low", "words"),
    [((2, 16), (1, 12), "2 and 1 images"), ((2, 16), (2, 16), r"\(16, 12\) channels"), ((2, 8), (2, 12), r"\(8, 12\)")],
    ids=str,
)
def test_wrong_maps_are_refused(high: tuple[int, int], low: tuple[int, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        block(widths=(16, 12))(torch.randn(*high, *MAP), torch.randn(*low, *MAP))


def test_samplers_refuse_maps_without_enough_positions() -> None:
    x = torch.randn(2, 3, 8, 12)
    with pytest.raises(UserError, match=r"110 points of a map of 8x12 .* saves nothing"):
        Sampler()(x)
    assert Sampler().eval()(x)[0].shape == (2, 3, 110)  # defined, only not useful
    for training in (True, False):
        with pytest.raises(UserError, match="points is 97, but the map has 8x12"):
            Sampler("random", points=97).train(training)(x)
    with pytest.warns(UserWarning, match="finer than the 8x12 map"):
        Sampler(sizes=[9])(x)
    with pytest.warns(UserWarning, match="comes twice"):
        Sampler(sizes=[1, 3, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sampler(sizes=[9]).eval()(x)
        Sampler(sizes=[1, 8])(x)


@pytest.mark.parametrize("side", [32, 48, 64])
def test_crops_below_the_coarsest_useful_map_are_refused(side: int) -> None:
    with pytest.raises(UserError, match=rf"110 points of a map of {side // 8}x12 positions.* train on larger crops"):
        small("resnet18", sizes=[1, 3, 6, 8])(torch.randn(2, 3, side, 96))
