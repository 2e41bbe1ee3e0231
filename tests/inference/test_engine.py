"""Identities of the engine that hold for any net, size, window and list of scales."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src.errors import UserError
from src.inference import Inference, Sliding, engine
from src.inference.lazy_rows import Mirrored, Resized, Whole
from src.inference.sliding_window import starts
from src.models import ExplicitAttention, HierarchicalAttention, PooledScales
from src.models.net import Net
from src.ops.resize import resize
from src.ops.scale_fusion import FUSIONS

quick = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
sides = st.integers(32, 90)
blends = st.sampled_from(["feather", "uniform"])
some_scales = st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.3, 2.0]), min_size=1, max_size=3, unique=True)


class Shallow(Net):
    """Logits at a quarter of the image, from 5x5 pixels each."""

    def __init__(self, classes: int = 5, *, align_corners: bool = False) -> None:
        super().__init__(num_classes=classes, align_corners=align_corners)
        torch.manual_seed(0)
        self.conv, self.feature_channels = nn.Conv2d(3, classes, 5, stride=4, padding=2), 3

    def decode(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.conv(image), "features": image}


def pixelwise(image: Tensor) -> dict[str, Tensor]:
    """A net that sees single pixels: windows cannot matter to it."""
    return {"logits": torch.stack([image.sum(1), image[:, 0] - image[:, 2], image.square().sum(1)], dim=1)}


def picture(height: int, width: int, images: int = 1) -> Tensor:
    return torch.randn(images, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


@quick
@given(
    side=st.integers(1, 400),
    window=st.integers(32, 128),
    overlap=st.floats(0, 0.95),
    blend=st.sampled_from(["feather", "uniform"]),
)
def test_weights_of_windows_sum_to_one_at_every_pixel(side: int, window: int, overlap: float, blend: str) -> None:
    begins, weights = Sliding([window, window], overlap, blend).weights(side, window)
    total = torch.zeros(side)
    for begin, each in zip(begins, weights, strict=True):
        total[begin : begin + len(each)] += each
    assert torch.allclose(total, torch.ones(side), atol=1e-5)
    assert (weights > 0).all()
    assert begins[0] == 0 and begins[-1] + weights.shape[1] == side
    assert all(b - a <= max(1, round(weights.shape[1] * (1 - overlap))) for a, b in pairwise(begins))


def test_the_last_window_moves_back_to_the_border() -> None:
    assert starts(100, 40, 0) == [0, 40, 60]
    assert starts(2048, 769, 1 / 3) == [0, 513, 1026, 1279]  # mmsegmentation's crop of 769 and stride of 513
    assert starts(30, 30, 0.5) == [0]


@quick
@given(
    height=sides,
    width=sides,
    window=st.tuples(st.integers(32, 80), st.integers(32, 80)),
    overlap=st.floats(0, 0.8),
    blend=st.sampled_from(["feather", "uniform"]),
    batch=st.integers(1, 3),
)
def test_windows_do_not_matter_to_a_net_of_single_pixels(height, width, window, overlap, blend, batch) -> None:
    image = picture(height, width, images=2)
    sliding = Inference(window=Sliding(window, overlap, blend, batch))
    assert torch.allclose(sliding(pixelwise, image), pixelwise(image)["logits"], atol=1e-4)


@quick
@given(height=sides, width=sides, align_corners=st.booleans())
def test_one_window_is_the_whole_image(height: int, width: int, align_corners: bool) -> None:
    net, image = Shallow(align_corners=align_corners), picture(height, width)
    window = Sliding([height, width])
    assert torch.equal(Inference(window=window)(net, image), Inference()(net, image))


@quick
@given(
    height=sides, width=sides, scales=some_scales,
    flip=st.booleans(), fuse=st.sampled_from(FUSIONS), window=st.sampled_from([None, Sliding([40, 48])]),
    rows=st.integers(1, 40), align_corners=st.booleans(),
)  # fmt: skip
def test_strips_are_the_whole(height, width, scales, flip, fuse, window, rows, align_corners) -> None:
    net, image = Shallow(align_corners=align_corners), picture(height, width)
    inference = Inference(scales, flip, fuse=fuse, window=window)
    strips = torch.cat(list(inference._strips(net, image, rows=rows)), dim=2)
    assert torch.allclose(strips.softmax(1), inference(net, image).softmax(1), atol=1e-5)


@quick
@given(
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)), target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    rows=st.integers(1, 20), align_corners=st.booleans(),
)  # fmt: skip
def test_rows_of_a_resized_map_are_those_of_the_resized_whole(source, target, rows, align_corners) -> None:
    full = picture(*source)
    resized = Resized(Whole(full), target, align_corners=align_corners)
    strips = [resized(start, min(start + rows, target[0])) for start in range(0, target[0], rows)]
    assert torch.allclose(torch.cat(strips, dim=2), resize(full, target, align_corners=align_corners), atol=1e-4)


def test_the_mirror_image_of_the_mirror_image() -> None:
    full = Whole(picture(40, 50))
    assert torch.equal(Mirrored(Mirrored(full))(3, 9), full(3, 9))


@quick
@given(scales=st.permutations([0.5, 1.0, 1.5]), fuse=st.sampled_from(FUSIONS))
def test_the_order_of_scales_is_irrelevant(scales: list[float], fuse: str) -> None:
    net, image = Shallow(), picture(64, 70)
    ordered = Inference([0.5, 1.0, 1.5], fuse=fuse)(net, image)
    assert torch.allclose(Inference(scales, fuse=fuse)(net, image), ordered, atol=1e-5)


@quick
@given(flip=st.booleans(), window=st.sampled_from([None, Sliding([32, 40])]))
def test_a_batch_is_its_images_one_by_one(flip: bool, window: Sliding | None) -> None:
    net, images = Shallow(), picture(50, 66, images=3)
    inference = Inference([0.8, 1.0], flip, window=window)
    alone = torch.cat([inference(net, image[None]) for image in images])
    assert torch.allclose(inference(net, images), alone, atol=1e-5)


@pytest.mark.parametrize("fuse", FUSIONS)
def test_labels_and_confidence_are_those_of_the_scores(fuse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = Shallow(), picture(75, 83)
    inference = Inference([0.5, 1.0], True, fuse=fuse, window=Sliding([48, 48]))
    probs, classes = inference(net, image).softmax(1).max(1)
    monkeypatch.setitem(engine._STRIP, "cpu", 1)  # strips of eight rows
    label, confidence = inference.label_and_confidence(net, image)
    assert torch.equal(label, inference.label(net, image))
    assert (label == classes).double().mean() > 0.999  # ties to a rounding error
    assert ((255 * probs).floor() - confidence).abs().max() <= 1


def test_fusions_are_what_they_say() -> None:
    net, image = Shallow(), picture(64, 64)
    one, two = (Inference([scale])(net, image) for scale in (0.5, 1.0))
    both = {fuse: Inference([0.5, 1.0], fuse=fuse)(net, image) for fuse in FUSIONS}
    assert torch.allclose(both["mean"], (one + two) / 2, atol=1e-6)
    assert torch.equal(both["max"], torch.maximum(one, two))
    assert torch.allclose(both["mean_probabilities"].exp(), (one.softmax(1) + two.softmax(1)) / 2, atol=1e-6)


def test_labels_of_a_large_image_need_no_map_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that is ever resized or reduced stays within a strip, and within a row of windows."""
    net, image, largest = Shallow(50), picture(512, 512), []
    monkeypatch.setitem(engine._STRIP, "cpu", 50 * 512 * 16)
    reduced = torch.Tensor.argmax
    monkeypatch.setattr(torch.Tensor, "argmax", lambda x, *given: largest.append(x.shape[2]) or reduced(x, *given))
    for window in (None, Sliding([64, 64], 0.25)):
        Inference([0.5, 1.0], window=window).label(net, image)
    assert max(largest) == 16 and len(largest) == 64


def scaled(kind: str, classes: int, *, scales: Sequence[float], align_corners: bool = False) -> Net:
    """A net that fuses scales itself."""
    net = Shallow(classes, align_corners=align_corners)
    if kind == "hierarchical":
        return HierarchicalAttention(net=net, scales=scales, attention_channels=[4]).eval()
    if kind == "explicit":
        return ExplicitAttention(net=net, scales=scales, attention_channels=[4]).eval()
    fuse, at = kind.split(" at ")
    return PooledScales(net=net, scales=scales, fuse=fuse, at=at).eval()


kinds_of_scales = st.sampled_from(
    ["hierarchical", "explicit", "max at logits", "max at image", "mean at image", "mean_probabilities at image"]
)


@quick
@given(
    kind=kinds_of_scales, height=st.integers(64, 90), width=st.integers(64, 90), rows=st.integers(1, 40),
    scales=st.lists(st.sampled_from([0.5, 0.75, 1.3, 2.0]), min_size=1, max_size=3, unique=True),
    align_corners=st.booleans(), flip=st.booleans(),
)  # fmt: skip
def test_strips_of_nets_with_scales_are_the_whole(kind, height, width, rows, scales, align_corners, flip) -> None:
    net, image = scaled(kind, 5, scales=[1, *scales], align_corners=align_corners), picture(height, width)
    with torch.no_grad():
        inference = Inference(flip=flip, fuse="mean", multiple=1)
        strips = torch.cat(list(inference._strips(net, image, rows=rows)), dim=2)
        whole = net(image)["logits"]
        if flip:
            whole = (whole + net(image.flip(3))["logits"].flip(3)) / 2
    assert torch.allclose(strips.softmax(1), whole.softmax(1), atol=1e-5)


class Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor that anything gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(x.numel() for x in tree_leaves(result) if isinstance(x, Tensor))])
        return result


@pytest.mark.parametrize("kind", ["hierarchical", "explicit", "mean_probabilities at image"])
def test_labels_from_several_scales_need_no_map_of_all_classes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = scaled(kind, 50, scales=[0.5, 1, 2]), picture(256, 256)
    monkeypatch.setitem(engine._STRIP, "cpu", 50 * 256 * 16)
    with Largest() as largest, torch.no_grad():
        label = Inference().label(net, image)
    assert largest.elements < 50 * 256 * 256 / 2
    with torch.no_grad():
        assert (label == net(image)["logits"].argmax(1)).double().mean() > 0.999  # ties to a rounding error


@quick
@given(height=sides, width=sides, align_corners=st.booleans(), window=st.sampled_from([None, Sliding([40, 48])]))
def test_a_net_sees_sides_over_which_its_maps_lie_evenly(height, width, align_corners, window) -> None:
    net, seen = Shallow(align_corners=align_corners), []
    decode = net.decode
    net.decode = lambda image: seen.append(image.shape[-2:]) or decode(image)
    scores = Inference(window=window)(net, picture(height, width))
    assert scores.shape == (1, 5, height, width)
    assert {side % 32 for size in seen for side in size} == {int(align_corners)}


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"short_side": 60}, (60, 90)),
        ({"long_side": 90}, (60, 90)),
        ({"short_side": 100, "long_side": 90}, (60, 90)),
        ({"short_side": 60, "long_side": 400, "scales": [1, 2]}, (120, 180)),
        ({"long_side": 240}, (160, 240)),
    ],
)
def test_scale_one_is_the_size_that_is_given(given: dict, seen: tuple[int, int]) -> None:
    net, sizes = Shallow(), []
    net.decode, decode = lambda image: sizes.append(tuple(image.shape[-2:])) or decode(image), net.decode
    scores = Inference(multiple=1, **given)(net, picture(120, 180))
    assert scores.shape[-2:] == (120, 180)
    assert sizes[-1] == seen


def test_what_is_padded_is_seen_as_zeros_and_cut_off() -> None:
    net, image = Shallow(), picture(50, 70)
    padded = nn.functional.pad(image, (0, 26, 0, 14))
    assert torch.allclose(Inference()(net, image), net(padded)["logits"][..., :50, :70], atol=1e-6)
    assert torch.equal(Inference(multiple=1)(net, image), net(image)["logits"])


def test_any_kind_of_device_has_strips() -> None:
    """Such as a Mac's; the meta device stands in for it."""
    net, image = Shallow().to("meta"), torch.empty(1, 3, 64, 96, device="meta")
    assert Inference().label(net, image).shape == (1, 64, 96)


def test_refinement_sees_the_image_and_all_scores() -> None:
    net, image, rgb = Shallow(), picture(40, 40), torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    refined = Inference(refine=lambda seen, scores: -scores if seen is rgb else None)
    assert torch.equal(refined(net, image, rgb), -Inference()(net, image))
    assert torch.equal(refined.label(net, image, rgb), Inference()(net, image).argmin(1).to(torch.uint8))


class Greedy:
    """A net without memory for more than ``limit`` pixels."""

    def __init__(self, limit: int) -> None:
        self.limit, self.seen = limit, []

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        if image.shape[2] * image.shape[3] > self.limit:
            raise torch.OutOfMemoryError("no memory")
        self.seen.append(tuple(image.shape[2:]))
        return pixelwise(image)


def test_falls_back_to_sliding_windows_where_memory_ends() -> None:
    net, image = Greedy(300 * 300), picture(1000, 700)
    inference = Inference()
    with pytest.warns(UserWarning, match=r"1000x700 .* windows of 256x192"):
        label = inference.label(net, image)
    assert torch.equal(label, pixelwise(image)["logits"].argmax(1).to(torch.uint8))
    assert set(net.seen) == {(256, 192)}
    inference.label(net, image)  # stays with windows, without another warning


def test_memory_for_no_window_is_an_error() -> None:
    with pytest.warns(UserWarning), pytest.raises(torch.OutOfMemoryError):
        Inference()(Greedy(0), picture(1000, 700))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": [16, 512]}, r"inference\.window\.size"), ({"size": [512]}, r"inference\.window\.size"),
        ({"overlap": 1.0}, r"inference\.window\.overlap"), ({"blend": "soft"}, r"inference\.window\.blend"),
        ({"batch": 0}, r"inference\.window\.batch"),
    ],
)  # fmt: skip
def test_impossible_windows_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Sliding(**options)


@pytest.mark.parametrize("side", [-1, 0.5])
def test_a_side_that_is_no_length_is_refused(side: float) -> None:
    with pytest.raises(UserError, match=rf"inference.short_side={side} must be a whole number"):
        Inference(short_side=side)


def test_a_multiple_below_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"inference\.multiple=0"):
        Inference(multiple=0)


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(UserError, match=r"inference\.fuse=sum"):
        Inference(fuse="sum")
