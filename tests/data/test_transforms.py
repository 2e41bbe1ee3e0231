"""Augmentation: image and label stay together, every pixel is real or padding, and a seed says all."""

import warnings

import cv2
import numpy as np
import pytest

from src.data.transforms import RandomScaleCrop, train_transform
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
    "options", [{"crop_size": [0, 4]}, {"crop_size": [4]}, {"scale": [0.0, 1.0]}, {"max_class_share": 0.0}]
)
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match="transforms"):
        train_transform(**{"crop_size": [4, 4], "scale": [1.0, 1.0], "mean": MEAN, **options})


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
