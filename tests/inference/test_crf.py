"""The CRF: published marginals, all pairs of pixels in numpy, and identities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from src.build import allowed
from src.build.instantiate import instantiate
from src.errors import UserError
from src.evaluation.crf_search import search
from src.inference import DenseCRF
from src.inference.permutohedral import Permutohedral
from tests.conftest import ROOT

CRF = DenseCRF(
    gaussian_weight=3, gaussian_std=1, bilateral_weight=4, bilateral_std_xy=67, bilateral_std_rgb=3, iterations=5
)
SOFT = replace(CRF, gaussian_std=3, bilateral_std_xy=10, bilateral_std_rgb=40)
FIGURES = {  # gaussian weight and std, bilateral weight, std of positions, std of colours
    "crf": (3, 1, 4, 67, 3),
    "crf_deeplab_v1": (3, 3, 4, 49, 5),
    "crf_deeplab_v2": (3, 1, 4, 67, 3),
    "crf_deeplab_v2_vgg": (2, 2, 4, 65, 3),
    "crf_pydensecrf": (3, 3, 10, 80, 13),
}
NORMALIZATIONS = ["symmetric", "before", "after", "none"]


def example(height: int = 9, width: int = 11, classes: int = 4, batch: int = 1) -> tuple[Tensor, Tensor]:
    """A random image and scores."""
    rgb = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    return rgb, 3 * torch.randn(batch, classes, height, width)


def smooth(height: int = 40, width: int = 48, classes: int = 4) -> tuple[Tensor, Tensor]:
    """A smooth image and smooth scores."""
    coarse = torch.rand(1, 3 + classes, 4, 4)
    maps = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    return (255 * maps[:, :3]).byte(), 6 * maps[:, 3:]


@pytest.mark.parametrize(("std", "iterations"), [(1, 1), (1, 10), (3, 10)])
def test_marginals_are_those_of_published_code(std: int, iterations: int) -> None:
    """The same lattice: 7e-8 apart on average, 2e-4 at most, where ten updates enlarge the rounding of float32."""
    reference = np.load(ROOT / "tests/golden/crf/densecrf_a.npz")
    rgb = torch.from_numpy(reference["image"]).permute(2, 0, 1)[None]
    scores = torch.from_numpy(reference["prob"]).log()[None]
    marginals = replace(CRF, gaussian_std=std, iterations=iterations)(rgb, scores).softmax(1)[0].numpy()
    difference = np.abs(marginals - reference[f"marginals_posstd{std}_iter{iterations}"])
    assert difference.mean() < 1e-5
    assert difference.max() < 5e-3
    assert (marginals.argmax(0) == reference[f"map_posstd{std}_iter{iterations}"]).mean() > 0.999


def all_pairs(crf: DenseCRF, rgb: Tensor, scores: Tensor, cost: np.ndarray) -> np.ndarray:
    """(K,H,W) marginals of one image in float64, each kernel over all pairs of pixels."""
    classes, height, width = scores.shape[1:]
    y, x = (axis.reshape(-1, 1) for axis in np.mgrid[:height, :width].astype(float))
    colours = rgb[0].flatten(1).T.double().numpy()
    message = np.zeros((height * width, height * width))
    near = np.hstack([x, y]) / crf.gaussian_std
    alike = np.hstack([x / crf.bilateral_std_xy, y / crf.bilateral_std_xy, colours / crf.bilateral_std_rgb])
    for weight, points in ((crf.gaussian_weight, near), (crf.bilateral_weight, alike)):
        kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(2) / 2)
        sums = kernel.sum(1)
        message += (
            weight
            * {
                "symmetric": kernel / np.sqrt(np.outer(sums, sums)),
                "before": kernel / sums[None],
                "after": kernel / sums[:, None],
                "none": kernel / sums.mean(),
            }[crf.normalization]
        )
    likely = scores[0].flatten(1).T.double().softmax(1).clamp(min=crf.clip).log()
    probs = likely.softmax(1)
    for _ in range(crf.iterations):
        probs = (likely - torch.from_numpy(message @ probs.numpy() @ cost)).softmax(1)
    return probs.T.reshape(classes, height, width).numpy()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_exact_form_is_the_sum_over_all_pairs(normalization: str) -> None:
    rgb, scores = example()
    crf = replace(SOFT, exact=True, normalization=normalization)
    assert np.abs(crf(rgb, scores).softmax(1)[0].numpy() - all_pairs(crf, rgb, scores, 1 - np.eye(4))).max() < 1e-5


def test_a_matrix_of_costs_weighs_each_pair_of_classes() -> None:
    rgb, scores = example()
    cost = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    crf = replace(SOFT, exact=True, compatibility=cost.tolist())
    expected = all_pairs(crf, rgb, scores, (cost + cost.T) / 2)
    assert np.abs(crf(rgb, scores).softmax(1)[0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_lattice_is_close_to_all_pairs(normalization: str) -> None:
    rgb, scores = smooth()
    crf = replace(SOFT, normalization=normalization)
    plain = scores.softmax(1)
    lattice, exact = (replace(crf, exact=exact)(rgb, scores).softmax(1) for exact in (False, True))
    assert (lattice - exact).abs().mean() < 0.01 < 0.1 < (plain - exact).abs().mean()
    assert (lattice.argmax(1) == exact.argmax(1)).double().mean() > 0.98


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_lattice_filters_as_a_gaussian_does(dimensions: int) -> None:
    points, values = 2 * torch.rand(dimensions, 400), torch.rand(400, 3)
    kernel = torch.cdist(points.T, points.T).square().mul(-0.5).exp()
    lattice = Permutohedral.of(points)
    found = lattice(values) / lattice(torch.ones(400, 1))
    assert (found - kernel @ values / kernel.sum(1, keepdim=True)).abs().max() < 0.05
    before, after = torch.rand(2, 400)
    expected = after[:, None] * lattice(before[:, None] * values)
    assert torch.allclose(lattice.scaled(before, after)(values), expected, rtol=1e-4)


def test_a_lattice_keeps_far_points_apart_and_equal_ones_together() -> None:
    points = torch.tensor([[0.0, 0.0, 50.0], [0.0, 0.0, -30.0]])
    found = Permutohedral.of(points)(torch.eye(3))
    assert torch.equal(found[0], found[1])
    assert not found[:2, 2].any()
    assert not found[2, :2].any()


@pytest.mark.parametrize("exact", [False, True])
def test_two_colours_are_told_apart_and_noise_is_removed(exact: bool) -> None:
    rgb = torch.full((1, 3, 24, 24), 40, dtype=torch.uint8)
    rgb[..., 11:] = 200
    truth = (rgb[:, 0] > 100).long()
    scores = torch.nn.functional.one_hot(truth, 2).permute(0, 3, 1, 2) + 1.2 * torch.randn(1, 2, 24, 24)
    crf = replace(CRF, bilateral_std_rgb=10, bilateral_weight=10, iterations=10, exact=exact)
    assert (scores.argmax(1) == truth).double().mean() < 0.8
    assert torch.equal(crf(rgb, scores).argmax(1), truth)


@pytest.mark.parametrize("exact", [False, True])
def test_the_matrix_of_potts_is_the_default(exact: bool) -> None:
    rgb, scores = example()
    crf = replace(SOFT, exact=exact)
    for potts in (1 - torch.eye(4), -torch.eye(4)):
        marginals = replace(crf, compatibility=potts.tolist())(rgb, scores).softmax(1)
        assert torch.allclose(marginals, crf(rgb, scores).softmax(1), atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_a_batch_is_its_images_one_by_one(exact: bool) -> None:
    rgb, scores = example(batch=3)
    crf = replace(SOFT, exact=exact)
    alone = [crf(rgb[i : i + 1], scores[i : i + 1]) for i in range(3)]
    assert torch.equal(crf(rgb, scores), torch.cat(alone))
    assert torch.equal(crf(rgb, scores), crf(rgb, scores))


def test_without_weights_the_scores_stay() -> None:
    rgb, scores = example()
    result = replace(CRF, gaussian_weight=0, bilateral_weight=0)(rgb, scores)
    assert torch.allclose(result, scores.log_softmax(1).clamp(min=np.log(1e-5)), atol=1e-4)


def test_one_weight_of_zero_leaves_the_other_kernel() -> None:
    rgb, scores = example()
    for name in ("gaussian_weight", "bilateral_weight"):
        alone, tiny = (replace(SOFT, **{name: weight})(rgb, scores) for weight in (0, 1e-6))
        assert torch.allclose(alone, tiny, atol=1e-3)
        assert not torch.allclose(alone, SOFT(rgb, scores), atol=1e-1)


def test_classes_and_mirror_images_change_places_with_their_scores() -> None:
    rgb, scores = example()
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(SOFT(rgb, scores[:, order]), SOFT(rgb, scores)[:, order], atol=1e-4)
    exact = replace(SOFT, exact=True)
    assert torch.allclose(exact(rgb.flip(3), scores.flip(3)), exact(rgb, scores).flip(3), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_images_of_one_line_or_one_pixel(size: tuple[int, int]) -> None:
    rgb, scores = example(*size)
    marginals = CRF(rgb, scores).softmax(1)
    assert marginals.shape == scores.shape
    assert marginals.isfinite().all()


def test_half_precision_scores_and_impossible_classes_are_fine() -> None:
    rgb, scores = example()
    scores[:, 0] = -1e4
    with torch.autocast("cpu", torch.bfloat16):
        result = CRF(rgb, scores.bfloat16())
    assert result.dtype == torch.float32
    assert torch.equal(result, CRF(rgb, scores.bfloat16().float()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gaussian_std": 0}, "gaussian_std=0"),
        ({"bilateral_std_xy": -1}, "bilateral_std_xy=-1"),
        ({"bilateral_std_rgb": float("nan")}, "bilateral_std_rgb=nan"),
        ({"gaussian_weight": -3}, "gaussian_weight=-3"),
        ({"bilateral_weight": "4"}, "bilateral_weight=4 must be"),
        ({"bilateral_weight": float("inf")}, "bilateral_weight=inf"),
        ({"iterations": 0}, "iterations=0"),
        ({"iterations": 2.5}, "iterations=2.5"),
        ({"clip": 0}, "clip=0"),
        ({"clip": 1}, "clip=1"),
        ({"normalization": "symetric"}, "Did you mean 'symmetric'"),
        ({"search_method": "random"}, "search_method=random"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(CRF, **options)


def test_inputs_of_another_kind_are_refused() -> None:
    rgb, scores = example()
    broken = scores.clone()
    broken[0, 1, 2, 3] = float("nan")
    for image, given in (
        (rgb.float(), scores),
        (rgb[:, :1], scores),
        (rgb[..., 1:], scores),
        (rgb[0], scores[0]),
        (rgb, scores.long()),
        (rgb.expand(2, -1, -1, -1), scores),
    ):
        with pytest.raises(UserError, match=r"inference\.refine needs an image"):
            CRF(image, given)
    with pytest.raises(UserError, match="not finite"):
        CRF(rgb, broken)
    for matrix in ([[0, 1], [1, 0]], [[0, 1], [1]], [[float("inf")] * 4] * 4, "potts"):
        with pytest.raises(UserError, match=r"compatibility(=.*)? must (hold 4 rows|be a list of lists of numbers)"):
            replace(CRF, compatibility=matrix)(rgb, scores)
    with pytest.raises(UserError, match=r"exact=true is for images of at most 10,000 pixels and this one has 101x100"):
        replace(CRF, exact=True)(*example(101, 100, 2))
    with pytest.raises(UserError, match="too small"):
        replace(CRF, bilateral_std_rgb=1e-4)(rgb, scores)


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_presets_hold_the_figures_of_their_source(name: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        node = compose(f"inference/refine/{name}").inference.refine
    crf = instantiate(node, allowed.INFERENCE)
    figures = (crf.gaussian_weight, crf.gaussian_std, crf.bilateral_weight, crf.bilateral_std_xy, crf.bilateral_std_rgb)
    assert figures == FIGURES[name]
    assert crf == replace(crf, iterations=10, normalization="symmetric", compatibility=None, clip=1e-5, search=None)
    assert set(node) == {"_target_", *vars(crf)}


class Images:
    """Two noisy images of two colours; counts how often it is iterated, and breaks off before pass ``stop``."""

    def __init__(self, stop: int | None = None) -> None:
        self.passes, self.stop = 0, stop
        self.rgb = torch.full((2, 3, 16, 16), 40, dtype=torch.uint8)
        self.rgb[..., 7:] = 90
        self.label = (self.rgb[:, 0] > 60).byte()
        one_hot = torch.nn.functional.one_hot(self.label.long(), 2).permute(0, 3, 1, 2)
        self.scores = one_hot + 2 * torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))
        self.label[:, :2] = 255

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if self.passes == self.stop:
            raise KeyboardInterrupt
        self.passes += 1
        yield from ((self.rgb[i, None], self.scores[i, None], self.label[i, None]) for i in range(2))


GRID = {"bilateral_weight": [1, 3], "bilateral_std_rgb": [8, 100, 200]}
TO_TUNE = replace(CRF, iterations=2, bilateral_weight=1, bilateral_std_rgb=200, search=GRID)


@pytest.mark.parametrize("method", ["coordinate", "grid"])
def test_a_search_finds_a_better_setting(tmp_path: Path, method: str) -> None:
    images, tuned = Images(), replace(TO_TUNE, search_method=method)
    found = search(tuned, images, tmp_path / "crf.csv")
    scores = {(crf.bilateral_weight, crf.bilateral_std_rgb): miou for crf, miou in found}
    best, highest = found[0]
    assert highest == max(scores.values()) > scores[1, 200]
    assert best.bilateral_std_rgb < 100
    assert all(crf.gaussian_std == 1 and crf.search is None for crf, _ in found)
    assert any(std not in (8, 100, 200) for _, std in scores)  # the fine round
    if method == "grid":
        assert {(weight, std) for weight in (1, 3) for std in (8, 100, 200)} <= set(scores)
        assert images.passes == 2
    labels = torch.cat([best(images.rgb[i, None], images.scores[i, None]).argmax(1) for i in range(2)])
    hits = [((labels == k) & (images.label == k)).sum().item() for k in range(2)]
    unions = [(((labels == k) | (images.label == k)) & (images.label != 255)).sum().item() for k in range(2)]
    assert highest == pytest.approx(sum(h / u for h, u in zip(hits, unions, strict=True)) / 2, abs=1e-5)


def test_a_search_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    whole = search(TO_TUNE, Images(), tmp_path / "whole.csv")
    with pytest.raises(KeyboardInterrupt):
        search(TO_TUNE, Images(stop=2), tmp_path / "crf.csv")
    kept = (tmp_path / "crf.csv").read_text()
    rest = Images()
    assert search(TO_TUNE, rest, tmp_path / "crf.csv") == whole
    assert (tmp_path / "crf.csv").read_text().startswith(kept)
    assert search(TO_TUNE, again := Images(), tmp_path / "crf.csv") == whole
    assert rest.passes > 0 == again.passes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "must give options their values"),
        ({}, "must give options their values"),
        ({"bilateral_std": [1]}, "'bilateral_std' cannot be searched.*Did you mean 'bilateral_std_"),
        ({"bilateral_std_xy": 3}, "must be a list of numbers"),
        ({"bilateral_std_xy": []}, "must be a list"),
        ({"bilateral_std_xy": [3, 0]}, "bilateral_std_xy=0 must be a number above 0"),
    ],
)
def test_a_search_of_nothing_is_refused(tmp_path: Path, values: dict | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(replace(CRF, search=values), Images(), tmp_path / "crf.csv")


def test_a_search_refuses_no_images_and_tables_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no image"):
        search(TO_TUNE, [], tmp_path / "crf.csv")
    search(TO_TUNE, Images(), tmp_path / "crf.csv")
    with pytest.raises(UserError, match=r"crf\.csv was made with another number of images"):
        search(replace(TO_TUNE, search={"gaussian_std": [2]}), list(Images())[:1], tmp_path / "crf.csv")
    good = (tmp_path / "crf.csv").read_bytes()
    row = good.splitlines(keepends=True)[1]
    for bad in (
        b"name,iou\n",
        good + b"1,2\n",
        good + b"\xff\n",
        good.replace(row, row.replace(b",0.", b",x.")),
        good + b'"',
    ):
        (tmp_path / "crf.csv").write_bytes(bad)
        with pytest.raises(UserError, match=r"crf\.csv is no table of a CRF search"):
            search(TO_TUNE, Images(), tmp_path / "crf.csv")
