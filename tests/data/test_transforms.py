"""Augmentation: image and label stay together, every pixel is real or padding, and a seed says all."""

import random
import warnings
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest

from src.data import SampleKey, SegmentationDataset, Source
from src.data.augment.pipeline import eval_transform, train_transform
from src.data.augment.random_crop import RandomScaleCrop
from src.errors import UserError

MEAN = [0.5, 0.4, 0.3]


def _scene(height: int = 90, width: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """A label of smooth regions and an image whose red channel is the label times ten."""
    noise = np.random.default_rng(0).random((6, 8)).astype(np.float32)
    label = (cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 5).clip(0, 4).astype(np.uint8)
    image = np.repeat(label[..., None] * 10, 3, axis=2)
    return image, label


def _apply(transform, seed: int, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    transform.set_random_seed(seed)
    out = transform(image=image, mask=label)
    return out["image"], out["mask"]


@pytest.mark.parametrize("scale", [(0.5, 2.0), [0.5, 0.75, 1.5], (1.0, 1.0), (3.0, 3.0)])
@pytest.mark.parametrize("size", [(32, 48), (96, 128), (200, 40)])
def test_image_and_label_show_the_same_window(scale, size: tuple[int, int]) -> None:
    transform = train_transform(crop_size=size, scale=scale, mean=MEAN)
    columns = np.broadcast_to(np.arange(120, dtype=np.uint8), (90, 120))  # label and image both hold the column
    for seed in range(20):
        image, label = _apply(transform, seed, np.repeat(columns[..., None], 3, axis=2), columns)
        assert image.shape == (*size, 3)
        assert label.shape == size
        assert image.dtype == label.dtype == np.uint8
        valid = label != 255
        assert valid.any()
        assert (image[~valid] == [128, 102, 76]).all()
        assert np.abs(image[valid][:, 0].astype(int) - label[valid]).max() <= 1


def test_scale_one_cuts_pixels_unchanged() -> None:
    image, label = _scene()
    cut, mask = _apply(train_transform(crop_size=(40, 50), scale=[1.0, 1.0], mean=MEAN, flip=0.0), 3, image, label)
    windows = np.lib.stride_tricks.sliding_window_view(label, (40, 50))
    y, x = np.argwhere((windows == mask).all((2, 3)))[0]
    assert np.array_equal(image[y : y + 40, x : x + 50], cut)


def test_every_position_is_reached() -> None:
    image, label = np.zeros((10, 10, 3), np.uint8), np.arange(100, dtype=np.uint8).reshape(10, 10)
    transform = train_transform(crop_size=(3, 3), scale=[1.0, 1.0], mean=MEAN, flip=0.0)
    corners = {int(_apply(transform, seed, image, label)[1][0, 0]) for seed in range(1000)}
    assert corners == {10 * y + x for y in range(8) for x in range(8)}


def test_a_seed_says_all() -> None:
    transform = train_transform(crop_size=(32, 48), scale=(0.5, 2.0), mean=MEAN, brightness=0.4, hue=0.1, blur=0.5)
    scene = _scene()
    first = [_apply(transform, seed, *scene) for seed in range(5)]
    again = [_apply(transform, seed, *scene) for seed in reversed(range(5))][::-1]
    for (image, label), (image_again, label_again) in zip(first, again, strict=True):
        assert np.array_equal(image, image_again)
        assert np.array_equal(label, label_again)
    assert not np.array_equal(first[0][0], first[1][0])


def test_flip_mirrors_both() -> None:
    image, label = _scene()
    flipped, mask = _apply(train_transform(crop_size=(90, 120), scale=[1.0, 1.0], mean=MEAN, flip=1.0), 0, image, label)
    assert np.array_equal(flipped, image[:, ::-1])
    assert np.array_equal(mask, label[:, ::-1])


def test_crops_avoid_one_class_covering_too_much() -> None:
    label = np.zeros((100, 100), np.uint8)
    label[:, 80:] = 1
    image = np.zeros((100, 100, 3), np.uint8)
    free, limited = (
        train_transform(crop_size=(20, 20), scale=[1.0, 1.0], mean=MEAN, max_class_share=share) for share in (1.0, 0.75)
    )
    mixed = [len(np.unique(_apply(t, seed, image, label)[1])) == 2 for t in (free, limited) for seed in range(100)]
    assert sum(mixed[100:]) > 1.5 * sum(mixed[:100])


def test_a_crop_larger_than_the_image_without_padding_is_refused() -> None:
    transform = train_transform(crop_size=(64, 200), scale=[1.0, 1.0], mean=MEAN, pad=False)
    with pytest.raises(UserError, match=r"crop_size=\[64, 200\].*120x90.*transforms\.pad=true"):
        _apply(transform, 0, *_scene())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("crop_size", [0, 4]),
        ("crop_size", [4]),
        ("crop_size", [4.5, 4]),
        ("output_size", [4]),
        ("scale", [0.0, 1.0]),
        ("aspect", [1.1, 0.9]),
        ("aspect", [1.0]),
        ("long_edge", 0),
        ("short_side", -1),
        ("fill", [0, 0, 256]),
        ("interpolation", "bicubic"),
        ("max_class_share", 0.0),
        ("rand_augment", [0, 10]),
        ("rand_augment", [2, 31]),
        ("rand_augment", [2.5, 10]),
        ("scale", ["large"]),
        ("flip", 2),
        ("hue", 0.6),
        ("brightness", -1),
        ("long_edge", "long"),
    ],
)
def test_impossible_options_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"transforms\.{option}="):
        train_transform(**{"crop_size": [4, 4], "scale": [1.0, 1.0], "mean": MEAN, option: value})


def test_colour_jitter_leaves_labels_alone() -> None:
    image, label = _scene()
    jittered, mask = _apply(
        train_transform(crop_size=(90, 120), scale=[1.0, 1.0], mean=MEAN, flip=0.0, brightness=0.5), 1, image, label
    )
    assert np.array_equal(mask, label)
    assert not np.array_equal(jittered, image)


def test_no_argument_of_the_library_is_dropped_silently() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_transform(crop_size=(8, 8), scale=(0.5, 2.0), mean=MEAN, brightness=0.1, blur=0.5)


def test_the_crop_reads_only_its_window() -> None:
    image, label = _scene()
    crop = RandomScaleCrop((30, 30), (2.0, 2.0))
    crop.set_random_seed(0)
    y, x, height, width = crop.get_params_dependent_on_data({}, {"image": image, "mask": label})["window"]
    assert (height, width) == (15, 15)
    assert 0 <= y <= 75
    assert 0 <= x <= 105


def _window(crop: RandomScaleCrop, seed: int, shape: tuple[int, int], focus: tuple[int, int] | None = None):
    crop.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return crop.get_params_dependent_on_data({}, {"image": np.empty((*shape, 3), np.uint8), "focus": focus})["window"]


@pytest.mark.parametrize(
    "options",
    [
        {"size": (20, 30)},
        {"size": (20, 30), "scale": [0.25, 4.0], "aspect": [0.5, 2.0]},
        {"size": (20, 30), "long_edge": 300, "output_size": (10, 10)},
        {"size": (200, 40), "scale": [0.5, 3.0], "short_side": 70},  # overhangs the image at small scales
        {"size": (90, 120), "scale": [1.0]},
    ],
    ids=str,
)
def test_a_crop_contains_its_focus(options: dict[str, Any]) -> None:
    crop = RandomScaleCrop(**options)
    for seed in range(200):
        focus = (random.Random(seed).randrange(90), random.Random(-seed).randrange(120))
        y, x, height, width = _window(crop, seed, (90, 120), focus)
        for start, length, at, side in ((y, height, focus[0], 90), (x, width, focus[1], 120)):
            assert start <= at < start + length
            assert min(0, side - length) <= start <= max(0, side - length)


def test_the_focus_lies_anywhere_in_the_crop() -> None:
    crop = RandomScaleCrop((10, 20), [1.0])
    windows = np.array([_window(crop, seed, (90, 120), (45, 60)) for seed in range(4000)])
    for place, length in ((45 - windows[:, 0], 10), (60 - windows[:, 1], 20)):
        assert np.bincount(place, minlength=length) / 4000 == pytest.approx([1 / length] * length, abs=0.02)


def test_the_key_of_a_sample_brings_its_focus_to_the_crop() -> None:
    image, label = np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    label[70, 110] = 3

    class Ramp(Source):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return image, label

        def name(self, index: int) -> str:
            return "only"

    dataset = SegmentationDataset(Ramp(), train_transform(crop_size=(16, 16), scale=(1.0, 2.0), mean=MEAN))
    shown = [3 in dataset[SampleKey(0, seed, focus)]["label"] for focus in ((70, 110), None) for seed in range(40)]
    assert all(shown[:40])
    assert sum(shown[40:]) < 10


@pytest.mark.parametrize(
    ("options", "window"),
    [
        ({"long_edge": 240}, (30, 20)),
        ({"short_side": 45}, (120, 80)),
        ({"long_edge": 240, "short_side": 45}, (120, 80)),  # the smaller result
        ({"long_edge": 240, "scale": [0.5]}, (60, 40)),
        ({"aspect": [4.0, 4.0]}, (120, 20)),
        ({"output_size": (15, 10)}, (60, 40)),
    ],
    ids=str,
)
def test_resizing_before_the_scale_and_after_the_crop_is_part_of_the_window(
    options: dict[str, Any], window: tuple[int, int]
) -> None:
    crop = RandomScaleCrop((60, 40), **{"scale": [1.0], **options})
    assert {_window(crop, seed, (90, 120))[2:] for seed in range(10)} == {window}


@pytest.mark.parametrize(
    "options",
    [
        {"scale": [1.7], "aspect": [0.9, 1.1]},
        {"scale": [0.5, 2.0], "aspect": [0.5, 2.0], "output_size": (37, 51)},
        {"scale": [1.0], "long_edge": 217, "interpolation": "cubic"},
        {"scale": [0.5, 0.75], "short_side": 52},
    ],
    ids=str,
)
def test_one_resize_shows_what_each_pixel_of_the_window_holds(options: dict[str, Any]) -> None:
    """Channels hold twice the row and the column of the source."""
    rows, columns = np.mgrid[:90, :120].astype(np.uint8)
    image, label = np.dstack([2 * rows, columns, rows]), columns.copy()
    crop = RandomScaleCrop((40, 60), **options)
    for seed in range(20):
        y, x, height, width = _window(crop, seed, (90, 120))
        crop.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out = crop(image=image, mask=label)
        size = out["mask"].shape
        assert size == options.get("output_size", (40, 60))
        at_row = y + (np.arange(size[0]) + 0.5) * height / size[0] - 0.5
        at_column = x + (np.arange(size[1]) + 0.5) * width / size[1] - 0.5
        inside = np.ix_((at_row >= 1) & (at_row <= 88), (at_column >= 1) & (at_column <= 118))
        truth = np.stack(np.meshgrid(2 * at_row, at_column, indexing="ij"), axis=2)[inside]
        step = max(height / size[0], width / size[1], 1)
        assert np.abs(out["image"][..., :2][inside] - truth).max() <= 2 * step
        assert np.abs(out["mask"][inside] - truth[..., 1]).max() <= step


def test_interpolation_is_of_enlarged_images_alone() -> None:
    image, label = _scene()
    for scale, same in ((2.0, False), (0.5, True)):
        given = {"crop_size": (40, 40), "scale": [scale], "mean": MEAN, "flip": 0.0}
        linear, cubic = (
            _apply(train_transform(**given, interpolation=each), 0, image, label) for each in ("linear", "cubic")
        )
        assert np.array_equal(linear[0], cubic[0]) == same
        assert np.array_equal(linear[1], cubic[1])


def test_padding_has_the_colour_asked_for() -> None:
    transform = train_transform(crop_size=(96, 200), scale=[1.0], mean=MEAN, fill=[1, 2, 3])
    image, label = _apply(transform, 0, *_scene())
    assert (image[label == 255] == [1, 2, 3]).all()
    assert (label == 255).any()


def test_a_shift_of_brightness_moves_all_channels_by_one_number_of_levels() -> None:
    image, label = np.full((8, 8, 3), [90, 120, 150], np.uint8), np.zeros((8, 8), np.uint8)
    transform = train_transform(crop_size=(8, 8), scale=[1.0], mean=MEAN, brightness_shift=10)
    shifts = []
    for seed in range(200):
        moved = _apply(transform, seed, image, label)[0].astype(int) - image
        assert np.ptp(moved) <= 1
        shifts.append(moved.mean())
    assert -10 <= min(shifts) < -7
    assert 7 < max(shifts) <= 10


def test_blur_follows_its_range_of_sigma() -> None:
    image, label = np.zeros((33, 33, 3), np.uint8), np.zeros((33, 33), np.uint8)
    image[16, 16] = 255
    sharp, soft, mixed = (
        train_transform(crop_size=(33, 33), scale=[1.0], mean=MEAN, flip=0.0, blur=1.0, blur_sigma=sigma)
        for sigma in ([0.15, 0.15], [1.3, 1.3], [0.15, 1.3])
    )
    assert np.array_equal(_apply(sharp, 0, image, label)[0], image)
    centre = int(_apply(soft, 0, image, label)[0][16, 16, 0])
    assert centre == pytest.approx(255 / (2 * np.pi * 1.3**2), abs=2)
    assert len({int(_apply(mixed, seed, image, label)[0][16, 16, 0]) for seed in range(30)}) > 10


@pytest.mark.parametrize("strength", [0, 10, 30])
def test_a_random_operation_moves_image_and_label_together_or_changes_colours(strength: int) -> None:
    image, label = _scene()  # the label is a tenth of the image
    given = {"crop_size": (90, 120), "scale": [1.0], "mean": MEAN, "flip": 0.0}
    transform, colours, moves = train_transform(**given, rand_augment=[1, strength]), 0, 0
    for seed in range(100):
        out, mask = _apply(transform, seed, image, label)
        assert out.shape == image.shape
        assert out.dtype == mask.dtype == np.uint8
        if np.array_equal(mask, label):
            colours += not np.array_equal(out, image)
        else:
            moves += 1
            valid = mask != 255
            assert np.median(np.abs(out[valid][:, 0].astype(int) - 10 * mask[valid])) == 0
            assert set(np.unique(mask)) <= {*np.unique(label), 255}
    assert colours > 5
    assert (moves > 5) == (strength > 0)


def test_as_many_random_operations_as_asked_for() -> None:
    image, label = _scene()
    given = {"crop_size": (90, 120), "scale": [1.0], "mean": MEAN, "flip": 0.0}
    one, five = (train_transform(**given, rand_augment=[count, 15]) for count in (1, 5))
    for seed in range(5):
        assert all(np.array_equal(a, b) for a, b in zip(*(_apply(five, seed, image, label) for _ in "ab"), strict=True))
    same = [sum(np.array_equal(_apply(t, seed, image, label)[0], image) for seed in range(60)) for t in (one, five)]
    assert same[0] > same[1]


@pytest.mark.parametrize("nested", [False, True])
def test_labels_that_further_transforms_uncover_are_ignored(nested: bool) -> None:
    rotate = A.Rotate((45, 45), fill_mask=0, p=1.0)
    extra = [A.OneOf([rotate], p=1.0)] if nested else [rotate]
    transform = train_transform(crop_size=(40, 60), scale=(1.0, 1.0), mean=MEAN, pad=False, extra=extra)
    _, label = _apply(transform, 0, np.zeros((90, 120, 3), np.uint8), np.full((90, 120), 7, np.uint8))
    assert set(np.unique(label)) == {7, 255}


@pytest.mark.parametrize("step", [A.Normalize(p=0.1), A.OneOf([A.ToFloat()]), A.Mosaic(p=0.1), "albumentations.Rotate"])
def test_further_transforms_must_be_some_and_keep_images_as_bytes(step: Any) -> None:
    with pytest.raises(UserError, match=r"transforms\.extra"):
        train_transform(crop_size=(32, 32), scale=(1.0,), mean=MEAN, extra=[step])


def test_evaluation_may_be_at_another_size() -> None:
    image, label = _scene()
    out = eval_transform(240)(image=image, mask=label)
    assert out["image"].shape == (180, 240, 3)
    assert np.array_equal(out["mask"], np.repeat(np.repeat(label, 2, 0), 2, 1))
    assert eval_transform(60)(image=image.transpose(1, 0, 2))["image"].shape == (60, 45, 3)
    for length in (0, 2177.5, True):
        with pytest.raises(UserError, match=r"data\.eval_long_edge="):
            eval_transform(length)
