"""What an epoch holds: counts by class, shares of pools, parts of ranks; crops show what they are drawn for."""

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data import LabelSpace, SampleKey, SegmentationDataset
from src.data.augment.pipeline import train_transform
from src.data.epoch_batches import EpochBatches
from src.data.sampling.class_index import class_index
from src.data.sampling.samplers import ClassUniform, Draw, Shuffle
from src.data.source import ConcatSource, Source
from src.errors import UserError

NAMES = ["ground", "wall", "pole", "train"]
SPACE = LabelSpace(NAMES, [(i, i, i) for i in range(4)])


class Scenes(Source):
    """Ground with one pixel each of some other classes, in the left third: not where the ground has its centre."""

    label_space = SPACE

    def __init__(self, contents: list[str], *, seed: int = 0, size: tuple[int, int] = (24, 30)) -> None:
        self.contents, self.seed, self.size = contents, seed, size

    def __len__(self) -> int:
        return len(self.contents)

    def name(self, index: int) -> str:
        return f"scene_{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.zeros(self.size, np.uint8)
        places = np.random.default_rng([self.seed, index]).permutation(label[:, : self.size[1] // 3].size)
        for name, place in zip(self.contents[index].split(), places, strict=False):
            label[divmod(place, self.size[1] // 3)] = NAMES.index(name)
        return np.repeat(label[..., None], 3, axis=2), label


def _epoch(draw: Draw, epoch: int = 0, seed: int = 0) -> np.ndarray:
    return draw(np.random.default_rng([seed, epoch]), epoch)


def _classes(entries: np.ndarray, source, tile: int = 1024) -> Counter[str]:
    """How many entries point at each class; those without a point are under "any"."""
    index = class_index(source, tile)
    owner = {tuple(point): name for i, name in enumerate(NAMES) for point in index.of(i).tolist()}
    return Counter("any" if entry[1] < 0 else owner[tuple(entry)] for entry in entries.tolist())


contents = st.lists(st.sampled_from(["", "wall", "wall pole", "pole train"]), min_size=8, max_size=60)


@settings(max_examples=60, deadline=None)
@given(contents, st.floats(0, 1), st.integers(0, 5))
def test_an_epoch_shows_every_class_equally_often_and_has_the_length_of_the_data(
    scenes: list[str], fraction: float, epoch: int
) -> None:
    source, n = Scenes(scenes), len(scenes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        entries = _epoch(ClassUniform(fraction=fraction).draws(source, n), epoch)
    assert entries.shape == (n, 3)
    present = {"ground"} | {name for scene in scenes for name in scene.split()}
    share = int(n * fraction / len(present))
    expected = Counter(dict.fromkeys(present, share)) + Counter(any=n - share * len(present))
    assert _classes(entries, source) == +expected
    whole = Counter(entries[entries[:, 1] < 0, 0].tolist())
    assert not whole or max(whole.values()) == 1
    points = Counter(map(tuple, entries[entries[:, 1] >= 0].tolist()))
    for class_id in range(4):  # shuffled, and started again only where the points of a class run out
        times = [points[tuple(point)] for point in class_index(source, 1024).of(class_id).tolist()]
        assert not times or max(times) - min(times) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([Shuffle, ClassUniform]),
)
def test_ranks_share_the_epoch_of_one_process(count: int, batch: int, world: int, epoch: int, kind: type) -> None:
    source = Scenes(["wall pole train"] * (count + 8))
    draw = kind().draws(source, len(source))
    parts = [EpochBatches(draw, len(source), batch, seed=1, rank=rank, world_size=world) for rank in range(world)]
    alone = EpochBatches(draw, len(source), batch * world, seed=1)
    for part in [*parts, alone]:
        part.epoch = epoch
    together = [[key for keys in step for key in keys] for step in zip(*parts, strict=True)]
    assert together == list(alone)
    assert len({key.seed for step in together for key in step}) == len(together) * batch * world


def test_keys_carry_the_points_and_every_kind_of_sample_comes_all_the_way() -> None:
    source = ConcatSource([Scenes(["wall pole train"] * 80), Scenes(["wall pole train"] * 80, seed=1)])
    draw = ClassUniform().draws(source, 80)
    entries = _epoch(draw, seed=5)
    keys = [key for batch in EpochBatches(draw, 80, 4, seed=5) for key in batch]
    assert [(key.index, *(key.focus or (-1, -1))) for key in keys] == list(map(tuple, entries.tolist()))
    for drawn in (entries, _epoch(Shuffle().draws(source, 80))):
        for half in (drawn[:40], drawn[40:]):
            assert 10 < (half[:, 0] >= 80).sum() < 30
            assert drawn is not entries or 10 < (half[:, 1] >= 0).sum() < 30


@pytest.mark.parametrize("sampler", [Shuffle(), ClassUniform()])
def test_an_epoch_continues_where_it_stopped_and_the_next_is_another(sampler: Shuffle) -> None:
    source = Scenes(["wall pole", "train"] * 20)
    batches = EpochBatches(sampler.draws(source, 40), 40, 4, seed=3)
    whole = list(batches)
    again = EpochBatches(sampler.draws(source, 40), 40, 4, seed=3)
    again.start = 6
    assert list(again) == whole[6:]
    batches.epoch = 1
    assert list(batches) != whole
    assert any(key.focus for batch in whole for key in batch) == isinstance(sampler, ClassUniform)


def test_classes_that_never_occur_are_named_once_and_replaced() -> None:
    source = Scenes(["wall"] * 40)
    with pytest.warns(UserWarning, match=r"pole, train occur in no training label.* 2 classes") as caught:
        draw = ClassUniform().draws(source, 40)
        epochs = [_epoch(draw, epoch) for epoch in range(3)]
    assert len(caught) == 1
    assert all(_classes(entries, source) == {"ground": 10, "wall": 10, "any": 20} for entries in epochs)


def test_too_small_a_fraction_says_so() -> None:
    with pytest.warns(UserWarning, match=r"sampler\.fraction=0\.1 of 12 images.*4 classes.*raise it"):
        draw = ClassUniform(fraction=0.1).draws(Scenes(["wall pole train"] * 12), 12)
    assert (_epoch(draw)[:, 1] < 0).all()


def test_bias_multiplies_the_crops_of_a_class() -> None:
    source = Scenes(["wall pole train"] * 80)
    draw = ClassUniform(bias={"train": 3, "ground": 0, "wall": 0.5}).draws(source, 80)
    assert _classes(_epoch(draw), source) == {"wall": 5, "pole": 10, "train": 30, "any": 35}


def test_after_the_last_epoch_images_are_only_shuffled() -> None:
    source = Scenes(["wall pole train"] * 30)
    draw = ClassUniform(last_epoch=2).draws(source, 30)
    drawn = [(_epoch(draw, epoch)[:, 1] >= 0).any() for epoch in range(4)]
    assert drawn == [True, True, False, False]
    assert np.array_equal(_epoch(draw, 2), _epoch(Shuffle().draws(source, 30), 2))


POOLS = ConcatSource([Scenes(["wall"] * 40), Scenes(["wall pole"] * 100, seed=1)])


def _pool_classes(entries: np.ndarray) -> np.ndarray:
    return np.array([-1 if row < 0 else POOLS.read(image)[1][row, column] for image, row, column in entries.tolist()])


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.integers(0, 4), st.sampled_from([Shuffle, ClassUniform]))
def test_an_epoch_has_the_length_of_the_first_pool_and_the_share_of_the_second(
    share: float, epoch: int, kind: type
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no train
        entries = _epoch(kind(extra_share=share).draws(POOLS, 40), epoch)
    assert len(entries) == 40
    shuffled = entries[entries[:, 1] < 0]
    for part in [shuffled, *(entries[(entries[:, 1] >= 0) & (_pool_classes(entries) == i)] for i in (0, 1))]:
        assert (part[:, 0] >= 40).sum() == round(share * len(part))
    assert len(set(shuffled[:, 0])) == len(shuffled)


@pytest.mark.filterwarnings("ignore:.*train occurs in no")
def test_a_class_of_one_pool_comes_from_there_alone() -> None:
    entries = _epoch(ClassUniform(extra_share=0.25).draws(POOLS, 40))
    poles = entries[_pool_classes(entries) == NAMES.index("pole")]
    assert len(poles) == 6
    assert (poles[:, 0] >= 40).all()


def test_only_named_classes_come_from_the_second_pool() -> None:
    sampler = ClassUniform(extra_classes=["pole"])
    with pytest.warns(UserWarning, match="train occurs"):
        entries = _epoch(sampler.draws(POOLS, 40))
    classes = _pool_classes(entries)
    assert (entries[classes == NAMES.index("pole"), 0] >= 40).all()
    assert (entries[(classes == NAMES.index("wall")) | ((classes == 0) & (entries[:, 1] >= 0)), 0] < 40).all()
    with pytest.warns(UserWarning, match="pole, train occur"):
        ClassUniform(extra_classes="wall").draws(POOLS, 40)


@pytest.mark.parametrize("tile", [1024, 9])
def test_a_crop_drawn_for_a_class_shows_it(tile: int) -> None:
    source = Scenes(["wall pole train", "train", "", "pole"] * 10, size=(37, 53))
    dataset = SegmentationDataset(source, train_transform(crop_size=(12, 14), scale=(1.0, 2.0), mean=[0, 0, 0]))
    entries = _epoch(ClassUniform(fraction=1.0, tile=tile).draws(source, 40))
    shown = Counter()
    for seed, (image, row, column) in enumerate(entries.tolist()):
        if row < 0:
            continue
        wanted = source.read(image)[1][row, column]
        assert wanted in dataset[SampleKey(image, seed, (row, column))]["label"]
        shown[NAMES[wanted]] += 1
    assert min(shown[name] for name in ("wall", "pole", "train")) >= 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 1.5}, r"sampler\.fraction=1\.5 must be a number from 0 to 1"),
        ({"fraction": "half"}, r"sampler\.fraction=half"),
        ({"tile": 0}, r"sampler\.tile=0 must be a whole number of 1 or more"),
        ({"tile": 0.5}, r"sampler\.tile=0\.5"),
        ({"last_epoch": -1}, r"sampler\.last_epoch=-1"),
        ({"extra_share": 2}, r"sampler\.extra_share=2"),
        ({"bias": 2}, r"sampler\.bias=2 must be a mapping of names to numbers"),
        ({"bias": {"pole": -1}}, r"sampler\.bias\.pole=-1"),
        ({"bias": {"pool": 2}}, r"sampler\.bias.*'pool'.*Did you mean 'pole'"),
        ({"bias": {"pole": 9}}, r"sampler\.bias and sampler\.fraction=0\.5 ask for .* epoch of 40; lower"),
        ({"extra_classes": ["walls"]}, r"sampler\.extra_classes.*'walls'.*Did you mean 'wall'"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClassUniform(**options).draws(Scenes(["wall pole train"] * 40), 40)


def test_labels_without_any_class_are_refused() -> None:
    class Void(Scenes):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8)

    with pytest.raises(UserError, match=r"no class in any label.*sampler=shuffle"):
        ClassUniform().draws(Void([""] * 3), 3)
