"""Toy streets: shapes, reproducibility, label values, how often each class occurs, sizes, errors."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest

from src.data.sets.toy_streets import ToyStreets
from src.errors import UserError

THIN = ("pole", "sign symbol", "fence", "pedestrian", "bicyclist")


def same(a: tuple, b: tuple) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def pixel_counts(count: int) -> np.ndarray:
    """(count, 256) pixels of each label value in the first training scenes."""
    source = ToyStreets(split="train", length=count)
    return np.stack([np.bincount(source.read(i)[1].ravel(), minlength=256) for i in range(count)])


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return pixel_counts(120)


def test_source_protocol():
    source = ToyStreets(split="train", length=13)
    image, label = source.read(12)
    assert len(source) == 13
    assert source.name(12) == "train_000012"
    assert image.shape == (128, 256, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert label.shape == (128, 256) and label.dtype == np.uint8 and label.flags.c_contiguous
    assert image.flags.writeable and label.flags.writeable


def test_label_space_is_camvid():
    space = ToyStreets.label_space
    assert space.names == (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist"
    )  # fmt: skip
    assert space.palette[3].tolist() == [128, 64, 128]
    assert len(set(space.colors)) == 11


def test_scene_depends_on_nothing_but_its_key():
    source = ToyStreets(split="train", length=6)
    forward = [source.read(i) for i in range(6)]
    np.random.seed(7)  # noqa: NPY002 - the legacy global state must not matter
    random.seed(7)
    other = pickle.loads(pickle.dumps(ToyStreets(split="train", length=99)))
    backward = [other.read(i) for i in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))


def test_reading_leaves_global_random_state_alone():
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    ToyStreets(split="train", length=1).read(0)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_splits_seeds_and_indices_share_no_scene():
    scenes = [ToyStreets(split=split, length=5).read(i) for split in ("train", "val", "test") for i in range(5)]
    scenes += [ToyStreets(split="train", length=5, seed=1).read(i) for i in range(5)]
    labels = {label.tobytes() for _, label in scenes}
    assert len(labels) == 20


def test_label_values(counts):
    present = np.flatnonzero(counts.sum(0))
    assert present.tolist() == [*range(11), 255]
    void = counts[:, 255].sum() / counts.sum()
    assert 0.005 < void < 0.04
    assert (counts[:, 255] == 0).mean() > 0.3  # void is not in every scene


@pytest.mark.parametrize("name", ToyStreets.label_space.names)
def test_every_class_occurs_often_and_with_enough_pixels(counts, name):
    index = ToyStreets.label_space.names.index(name)
    share = (counts[:, index] >= 30).mean()
    assert share >= (0.5 if name in THIN else 0.9)
    assert counts[:, index].sum() / counts.sum() > 0.004


def test_poles_are_wide_enough_for_stride_eight():
    source = ToyStreets(split="train", length=40)
    runs = []
    for i in range(40):
        pole = np.pad(source.read(i)[1] == 2, ((0, 0), (1, 1))).astype(np.int8)
        step = np.diff(pole, axis=1)
        runs.append(np.argwhere(step == -1)[:, 1] - np.argwhere(step == 1)[:, 1])
    assert np.median(np.concatenate(runs)) >= 3


def test_color_alone_does_not_tell_the_class():
    source = ToyStreets(split="train", length=40)
    votes = np.zeros((4096, 11), np.int64)
    for i in range(40):
        image, label = source.read(i)
        known = label < 11
        coarse = (image[known] >> 4).astype(np.int64) @ [256, 16, 1]
        np.add.at(votes, (coarse, label[known]), 1)
    best = votes.argmax(1)
    hits = [votes[best == k, k].sum() / votes[:, k].sum() for k in range(11)]
    assert np.mean([hits[k] for k in (2, 6, 7, 8, 9, 10)]) < 0.35  # even when judged on what it was fitted to


@pytest.mark.parametrize(("height", "width"), [(97, 161), (32, 32), (64, 300), (200, 90), (512, 1024)])
def test_any_size(height, width):
    source = ToyStreets(split="val", length=2, height=height, width=width)
    image, label = source.read(1)
    assert image.shape == (height, width, 3)
    assert label.shape == (height, width)
    assert set(np.unique(label)) <= {*range(11), 255}
    assert image.std() > 15
    assert 0 in label[: height // 3] and 3 in label[height // 2 :]  # sky above, road below


def test_same_street_at_every_size():
    small = ToyStreets(split="train", length=8)
    large = ToyStreets(split="train", length=8, height=512, width=1024)
    for i in range(3):
        (image, label), (big_image, big_label) = small.read(i), large.read(i)
        assert (big_label[2::4, 2::4] == label).mean() > 0.93
        shrunk = big_image.reshape(128, 4, 256, 4, 3).mean((1, 3))
        assert np.abs(shrunk - image).mean() < 14


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "training"}, "'training'.*train, val, test"),
        ({"length": 0}, "length 0"),
        ({"height": 31}, "31x256"),
        ({"width": 8}, "128x8"),
        ({"seed": -1}, "-1"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UserError, match=words):
        ToyStreets(**{"split": "train", "length": 4} | arguments)


@pytest.mark.parametrize("index", [4, -1])
def test_index_out_of_range(index):
    with pytest.raises(IndexError):
        ToyStreets(split="train", length=4).read(index)
