"""Loaders: the sample contract, order that depends on the seed alone, and exact continuation."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.data import LabelSpace, SampleKey, SegmentationDataModule, SegmentationDataset
from src.data.augment.pipeline import train_transform
from src.data.epoch_batches import shard
from src.data.sampling.samplers import ClassUniform, Shuffle
from src.data.source import ConcatSource, Source
from src.errors import UserError
from tests.conftest import ROOT

SPACE = LabelSpace(["a", "b"], [(1, 2, 3), (4, 5, 6)])


class Scenes(Source):
    """Images whose pixels all hold their own index."""

    label_space = SPACE

    def __init__(self, count: int, sizes: tuple[tuple[int, int], ...] = ((8, 10),), labelled: bool = True) -> None:
        self.count, self.sizes, self.labelled = count, sizes, labelled

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"image_{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        size = self.sizes[index % len(self.sizes)]
        label = np.full(size, index % 2, np.uint8) if self.labelled else None
        return np.full((*size, 3), index, np.uint8), label


def _module(count: int = 10, **options) -> SegmentationDataModule:
    source = options.pop("source", Scenes(count))
    splits = {"train": ["s"], "val": ["s"], "test": ["s"]}
    return SegmentationDataModule(lambda split: source, splits, num_workers=0, **{"batch_size": 3, **options})


def test_the_sample_contract() -> None:
    sample = SegmentationDataset(Scenes(3))[2]
    assert sample["image"].shape == (3, 8, 10)
    assert sample["label"].shape == (8, 10)
    assert sample["image"].dtype == sample["label"].dtype == torch.uint8
    assert sample["name"] == "image_2"
    assert "label" not in SegmentationDataset(Scenes(3, labelled=False))[0]


def test_a_sample_depends_on_its_key_alone() -> None:
    transform = train_transform(crop_size=(6, 6), scale=(0.5, 2.0), mean=[0, 0, 0], brightness=0.4)
    dataset = SegmentationDataset(Scenes(5), transform)
    first = dataset[SampleKey(3, 17)]["image"]
    for key in (SampleKey(1, 5), SampleKey(3, 18), SampleKey(0, 17)):
        _ = dataset[key]
    assert torch.equal(dataset[SampleKey(3, 17)]["image"], first)


def test_the_draws_of_one_sample_do_not_depend_on_each_other() -> None:
    """Scale, flip and brightness of many samples are uncorrelated."""
    columns = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (32, 64, 3))

    class Ramp(Scenes):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return columns, np.zeros((32, 64), np.uint8)

    transform = train_transform(crop_size=(16, 16), scale=(0.5, 2.0), mean=[0, 0, 0], brightness=0.5)
    dataset = SegmentationDataset(Ramp(1), transform)
    draws = []
    for seed in range(400):
        row = dataset[SampleKey(0, seed)]["image"][0, 8].float()
        valid = row[row > 0]
        slope = float(valid[-1] - valid[0]) / len(valid)
        draws.append((abs(slope), slope < 0, float(valid.mean())))
    correlation = np.corrcoef(np.array(draws, float).T)
    assert abs(correlation[0, 1]) < 0.2
    assert abs(correlation[1, 2]) < 0.2


def _names(loader) -> list[str]:
    return [name for batch in loader for name in batch["name"]]


def test_an_epoch_shows_every_image_at_most_once_and_drops_the_rest() -> None:
    loader = _module(10).train_dataloader()
    names = _names(loader)
    assert len(names) == len(set(names)) == 9
    assert len(loader) == 3


def test_epochs_differ_and_a_seed_repeats_them() -> None:
    first, second = (_module(10, seed=1).train_dataloader() for _ in range(2))
    epochs = [_names(first) for _ in range(3)]
    assert epochs[0] != epochs[1]
    assert epochs == [_names(second) for _ in range(3)]
    assert epochs[0] != _names(_module(10, seed=2).train_dataloader())


class Noted:
    """A transform that writes the point to show into the image, so that a batch tells its keys."""

    def set_random_state(self, *_) -> None: ...

    def __call__(self, image: np.ndarray, mask: np.ndarray, focus: tuple[int, int] | None) -> dict[str, np.ndarray]:
        image = image.copy()
        image[0, 0] = image[0, 0, 0], *(focus or (99, 99))
        return {"image": image, "mask": mask}


def _keys(batch) -> list[list[int]]:
    return batch["image"][:, :, 0, 0].tolist()


@pytest.mark.parametrize("sampler", [Shuffle(), ClassUniform(last_epoch=2)], ids=["shuffle", "class uniform"])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 5, 6])
def test_a_loaded_state_goes_on_behind_the_last_batch(stop: int, sampler: Shuffle) -> None:
    def loader():
        return _module(10, sampler=sampler, train_transform=Noted()).train_dataloader()

    whole = loader()
    expected = [_keys(batch) for _ in range(3) for batch in whole]
    broken = loader()
    seen = []
    while len(seen) < stop:
        for batch in broken:
            seen.append(_keys(batch))
            if len(seen) == stop:
                break
    state = broken.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    while len(seen) < len(expected):
        seen.extend(_keys(batch) for batch in resumed)
    assert seen == expected
    shown = [key[1] != 99 for batch in seen[:6] for key in batch]
    assert any(shown) == isinstance(sampler, ClassUniform)
    assert all(key[1] == 99 for batch in seen[6:] for key in batch)


def test_a_second_pool_is_read_behind_the_first_and_does_not_lengthen_an_epoch() -> None:
    pools = {"train": Scenes(6), "extra": Scenes(200)}
    module = SegmentationDataModule(
        lambda split: pools[split], {"train": "train"}, batch_size=2, num_workers=0, sampler=Shuffle(extra="extra")
    )
    assert module.train_batches == 3
    assert module.sources("train") == list(pools.values())
    indices = [key.index for batch in module.train_dataloader().batch_sampler for key in batch]
    assert sum(index < 6 for index in indices) == 3
    assert len(indices) == 6


def test_processes_take_parts_of_one_epoch() -> None:
    def keys(batch_size: int, rank: int, world_size: int) -> list:
        module = _module(12, sampler=ClassUniform(), batch_size=batch_size)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, limit_train_batches=1.0)
        return [key for batch in module.train_dataloader().batch_sampler for key in batch]

    assert sorted(keys(3, 0, 2) + keys(3, 1, 2), key=str) == sorted(keys(6, 0, 1), key=str)


def test_a_position_counts_for_other_ranks_of_the_same_total_and_for_no_other_total() -> None:
    def loader(batch_size: int, rank: int, world_size: int):
        module = _module(24, batch_size=batch_size)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, limit_train_batches=1.0)
        return module.train_dataloader()

    whole = _names(loader(6, 0, 1))
    state = {"epoch": 0, "batches": 2, "images": 6}
    ranks = [loader(3, rank, 2) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(state)
    assert sorted(name for rank in ranks for name in _names(rank)) == sorted(whole[12:])
    with pytest.raises(UserError, match=r"data\.batch_size=6 on 2 device.* data\.batch_size=3 or"):
        loader(6, 0, 2).load_state_dict({"epoch": 0, "batches": 1, "images": 6})


_LEFT = """
import sys
from src.data import SegmentationDataModule
from src.data.sets.toy_streets import ToyStreets
toy = ToyStreets(split="train", length=4, height=32, width=32)
data = SegmentationDataModule(lambda split: toy, {"train": "s"}, batch_size=1, num_workers=1)
batches = iter(data.train_dataloader())
next(batches)
sys.exit(3)
"""


@pytest.mark.slow
def test_a_program_ends_though_its_loader_is_not_through() -> None:
    """Loading processes ignore the signal by which Python ends what it has started."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", _LEFT], env=env, timeout=120, check=False).returncode == 3


def test_a_batch_is_read_anew_by_its_place() -> None:
    module = _module(10, train_transform=Noted())
    batches = [list(epoch) for loader in [module.train_dataloader()] for epoch in (loader, loader)]
    again = module.train_batch(1, 2)
    assert again["name"] == batches[1][2]["name"]
    assert torch.equal(again["image"], batches[1][2]["image"])


def test_labels_are_looked_through_before_a_fit_and_for_nothing_else() -> None:
    class Looked(Shuffle):
        looks = 0

        def draws(self, *given):
            self.looks += 1
            return super().draws(*given)

    module = _module(sampler=Looked())
    module.trainer = SimpleNamespace(state=SimpleNamespace(fn="test"), global_rank=0, world_size=1)
    module.prepare_data()
    assert module.sampler.looks == 0
    module.trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), global_rank=0, world_size=1, limit_train_batches=1.0
    )
    assert module.train_batches == 3
    assert module.sampler.looks == 0
    module.prepare_data()
    module.train_dataloader()
    assert module.sampler.looks == 1


def test_evaluation_counts_every_image_once_whatever_the_ranks() -> None:
    assert sorted(index for rank in range(3) for index in shard(10, rank, 3)) == list(range(10))


def test_a_split_with_fewer_images_than_devices_is_refused_on_each() -> None:
    for rank in range(3):
        module = _module(2)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=3, limit_train_batches=1.0)
        with pytest.raises(UserError, match=r"2 images, but each of 3 devices needs one; use trainer\.devices=2"):
            module.val_dataloader()


def test_a_split_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 images.*data\.batch_size=3.*data\.batch_size=2"):
        _module(2).train_dataloader()


def test_sizes_that_differ_cannot_be_one_batch() -> None:
    module = _module(source=Scenes(4, sizes=((8, 10), (8, 12))), eval_batch_size=2)
    with pytest.raises(UserError, match=r"image_0 is 10x8.*image_1 is 12x8.*eval_batch_size=1"):
        _names(module.val_dataloader())
    module = _module(source=Scenes(4, sizes=((8, 10), (8, 12))))
    assert len(_names(module.val_dataloader())) == 4


def test_batches_are_channels_last_views_of_the_decoded_pixels() -> None:
    batch = next(iter(_module(4).val_dataloader()))
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["image"].unique().tolist() == [0]


def test_several_splits_are_one_after_the_other() -> None:
    source = ConcatSource([Scenes(2), Scenes(3)])
    assert len(source) == 5
    assert [int(source.read(i)[0][0, 0, 0]) for i in range(5)] == [0, 1, 0, 1, 2]
    assert source.name(4) == "image_2"


def test_a_missing_split_says_how_to_add_it() -> None:
    module = SegmentationDataModule(lambda split: Scenes(3), {"train": ["train"]})
    with pytest.raises(UserError, match=r"data\.splits\.test=\[test\]"):
        _ = module.test_dataset
