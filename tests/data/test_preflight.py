"""The look before a fit, what an earlier full audit adds to it, and labels as the loss would get them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data import SegmentationDataModule
from src.data.augment.pipeline import train_transform
from src.data.doctor import audit, preflight
from src.data.doctor.audit import remembered_audit as full
from src.data.doctor.duplicates import leak
from src.data.doctor.preflight import before_fit
from src.data.folder.source import folder
from src.data.label_space import IGNORE_INDEX, LabelSpace
from src.data.source import FileSource, Pair
from src.errors import UserError

SPACE = LabelSpace(["a", "b"], [(1, 2, 3), (4, 5, 6)])


def split(folder: Path, labels: Mapping[int, Any], *, space: LabelSpace = SPACE, same: bool = False) -> FileSource:
    """Images of noise (or all the same) with these labels."""
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(sum(map(ord, folder.name)))
    pairs = []
    for number, label in labels.items():
        label = np.asarray(label, np.uint8)
        drawn = np.random.default_rng(0) if same else noise
        pixels = drawn.integers(0, 256, (*label.shape[:2], 3), np.uint8)
        pair = Pair(folder / f"{number:02}.png", folder / f"{number:02}_label.png", f"{folder.name}_{number:02}")
        Image.fromarray(pixels).save(pair.image)
        Image.fromarray(label).save(pair.label)
        pairs.append(pair)
    return FileSource(pairs, space)


def module(train: FileSource, val: FileSource, **options: Any) -> SegmentationDataModule:
    splits = {"train": ["train"], "val": ["val"]}
    made = {"train": train, "val": val}
    return SegmentationDataModule(
        lambda split: made[split], splits, **{"batch_size": 1, "num_workers": 0, "seed": 0, **options}
    )


def sound(folder: Path, count: int = 20) -> FileSource:
    return split(folder, {number: [[0, 1, 255, 1]] for number in range(count)})


def spoil(source: FileSource, number: int, label: Any) -> None:
    Image.fromarray(np.asarray(label, np.uint8)).save(source.pairs[number].label)


def test_one_line_says_how_much_was_looked_at(tmp_path: Path) -> None:
    both = module(sound(tmp_path / "train"), sound(tmp_path / "val", 3))
    line = before_fit(both)
    assert line.startswith("labels checked: train 16 of 20, val 3 of 3; ")
    assert "src.doctor" in line
    for source in both.sources("train", "val"):
        full(source)
    assert before_fit(both) == "labels checked: train 20 of 20, val 3 of 3"


def test_nothing_is_read_again_after_a_full_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = module(sound(tmp_path / "train"), sound(tmp_path / "val", 3))
    first = [full(source) for source in both.sources("train", "val")]
    monkeypatch.setattr(preflight, "audit", None)
    monkeypatch.setattr(audit, "audit", None)
    before_fit(both)
    again = [full(source) for source in both.sources("train", "val")]
    assert [found.report for found in again] == [found.report for found in first]
    with pytest.raises(TypeError):
        full(both.sources("val")[0], fresh=True)


def test_what_a_full_audit_found_stops_the_fit_until_the_file_changes(tmp_path: Path) -> None:
    train, val = sound(tmp_path / "train"), sound(tmp_path / "val", 3)
    spoil(train, 2, [[0, 1, 9, 1]])  # between those that the sample looks at
    before_fit(module(train, val))
    full(train)
    with pytest.raises(UserError, match=r"train/02_label\.png: label value 9 .*data\.file_values="):
        before_fit(module(train, val))
    spoil(train, 2, [[0, 1, 1, 1, 0]][:1])
    Image.new("RGB", (5, 1)).save(train.pairs[2].image)
    assert "train 16 of 20" in before_fit(module(train, val))


def test_a_partial_audit_is_not_remembered(tmp_path: Path) -> None:
    source = sound(tmp_path / "train")
    spoil(source, 2, [[0, 1, 9, 1]])
    assert full(source, limit=2).problems == []
    assert len(full(source).problems) == 1


def test_a_full_audit_of_one_class_labels_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = split(tmp_path / "train", {number: [[0, 255]] for number in range(20)} | {10: [[1, 1]]})
    reads, read = [], FileSource.read_stored
    monkeypatch.setattr(FileSource, "read_stored", lambda self, index: (reads.append(index), read(self, index))[1])
    for _ in range(2):
        preflight.preflight(source, limit=2)
    assert len(reads) == 2 + 20


def test_sizes_that_cannot_be_scored_together_stop_it(tmp_path: Path) -> None:
    train = sound(tmp_path / "train", 3)
    val = split(tmp_path / "val", {0: [[0, 1]], 1: [[0, 1, 1]]})
    before_fit(module(train, val))
    with pytest.raises(UserError, match=r"data\.eval_batch_size=2 .* val .*2x1, 3x1.*set data\.eval_batch_size=1"):
        before_fit(module(train, val, eval_batch_size=2))


def test_one_image_of_another_size_is_found_among_many_also_in_test(tmp_path: Path) -> None:
    train, val = sound(tmp_path / "train", 3), sound(tmp_path / "val", 60)
    before_fit(module(train, val, eval_batch_size=2))
    odd = split(tmp_path / "odd", {number: [[0, 1, 1, 1]] if number != 30 else [[0, 1]] for number in range(60)})
    with pytest.raises(UserError, match=r"images of val together, but their sizes differ \(4x1, 2x1\)"):
        before_fit(module(train, odd, eval_batch_size=2))
    both = SegmentationDataModule(
        lambda split: {"train": train, "val": val, "test": odd}[split],
        {"train": ["train"], "val": ["val"], "test": ["test"]},
        batch_size=1,
        eval_batch_size=2,
    )
    with pytest.raises(UserError, match=r"images of test together, but their sizes differ \(4x1, 2x1\)"):
        before_fit(both)


def crops(**options: Any) -> Any:
    return train_transform(**{"crop_size": [4, 4], "scale": [1.0], "mean": [0.5] * 3, "pad": False, **options})


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        ({}, "4x4"),
        ({"crop_size": [3, 8]}, None),
        ({"crop_size": [3, 8], "scale": [0.75, 2.0]}, "11x4"),
        ({"crop_size": [2, 5], "aspect": [0.25, 4.0]}, "10x4"),
        ({"pad": True}, None),
        ({"short_side": 64}, None),
    ],
)
def test_images_smaller_than_a_crop_stop_it_before_anything_is_trained(
    tmp_path: Path, options: dict[str, Any], stops: str | None
) -> None:
    large, small = np.tile(np.uint8([0, 1]), (5, 6)), np.tile(np.uint8([0, 1]), (3, 5))
    train = split(tmp_path / "train", {number: small if number == 30 else large for number in range(60)})
    both = module(train, sound(tmp_path / "val", 3), train_transform=crops(**options))
    if stops is None:
        before_fit(both)
        return
    with pytest.raises(
        UserError,
        match=rf"crops need up to {stops} pixels, but 1 of 60 images .* \(train_30 is 10x3, .*pad=true.*preflight",
    ):
        before_fit(both)


def test_sizes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = sound(tmp_path / "train", 3), sound(tmp_path / "val", 3)
    both = module(train, val, eval_batch_size=2, train_transform=crops(crop_size=[1, 2]))
    before_fit(both)
    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "size", None)
        before_fit(both)
    spoil_image = train.pairs[1].image
    Image.new("RGB", (1, 1)).save(spoil_image)
    Image.new("L", (1, 1)).save(train.pairs[1].label)
    with pytest.raises(UserError, match="1 of 3 images of train are smaller"):
        before_fit(both)


def test_copies_that_the_doctor_found_stop_it(tmp_path: Path) -> None:
    labels = {number: [[0, 1]] for number in range(3)}
    train, val = (split(tmp_path / name, labels, same=True) for name in ("train", "val"))
    before_fit(module(train, val))
    for source in (train, val):
        full(source)
    leak(train, val)
    with pytest.raises(UserError, match=r"3 of 3 images of val are in train.*data\.splits_files.*preflight=false"):
        before_fit(module(train, val))


def test_splits_that_a_link_makes_one_stop_it(tmp_path: Path) -> None:
    train, val = sound(tmp_path / "train", 3), sound(tmp_path / "val", 3)
    for pair in [*train.pairs, *val.pairs]:
        for file in (pair.image, pair.label):
            place = (
                tmp_path / "data" / ("images" if file == pair.image else "masks") / file.parent.name / pair.image.name
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
    options = {"root": tmp_path / "data", "classes": ["a", "b"]}
    before_fit(module(*(folder(split=name, **options) for name in ("train", "val"))))
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind / "val").rename(tmp_path / kind)
        (tmp_path / "data" / kind / "val").symlink_to("train")
    with pytest.raises(UserError, match=r"3 of 3 images of val are in train.*preflight=false"):
        before_fit(module(*(folder(split=name, **options) for name in ("train", "val"))))


def test_a_split_without_labels_cannot_be_trained_on(tmp_path: Path) -> None:
    bare = sound(tmp_path / "val", 2)
    bare.pairs = [pair._replace(label=None) for pair in bare.pairs]
    with pytest.raises(UserError, match=r"none of 2 samples .*data\.splits"):
        before_fit(module(sound(tmp_path / "train", 2), bare))


def ends_in(source: FileSource, stage: str, *, workers: int) -> str:
    """What the loader of a stage says of the source."""
    loader = getattr(module(source, source, num_workers=workers), f"{stage}_dataloader")()
    with pytest.raises(UserError) as caught:
        list(loader)
    if workers:
        loader._iterator._shutdown_workers()  # now, not while another test runs
    return str(caught.value)


@pytest.mark.parametrize("stage", ["train", "val"])
@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ([[0, 1, 7, 1]], r"00_label\.png: label value 7 .*is not in the label map of 2 classes.*data\.file_values"),
        ([[0, 1]], r"00_label\.png: label is 2x1 but its image .*00\.png is 4x1"),
        (np.zeros((1, 4, 3)), r"00_label\.png: label has 3 channels .*data\.encoding=color"),
    ],
)
def test_a_bad_label_never_becomes_a_batch(tmp_path: Path, stage: str, label: Any, sentence: str) -> None:
    source = sound(tmp_path / "train", 1)
    spoil(source, 0, label)
    said = ends_in(source, stage, workers=0)
    assert "\n" not in said
    assert re.search(sentence, said)


def test_a_loading_process_ends_in_the_same_sentence(tmp_path: Path) -> None:
    source = sound(tmp_path / "train", 1)
    spoil(source, 0, [[0, 1, 7, 1]])
    behind_the_trace = ends_in(source, "train", workers=1).rsplit("UserError: ", 1)[-1].strip()
    assert behind_the_trace == ends_in(source, "train", workers=0)


@pytest.mark.parametrize("encoding", ["index", "color"])
def test_nothing_out_of_range_reaches_the_loss(tmp_path: Path, encoding: str) -> None:
    """Whatever files hold, a batch has classes and 255 only, or the file is named."""
    random = np.random.default_rng(0)
    batches = refused = 0
    for case in range(24):
        classes = int(random.integers(1, 9))
        known = random.choice(256, 12, replace=False)
        ids = [int(value) for value in random.choice([*range(classes), IGNORE_INDEX], 12)]
        strict = bool(case % 2)
        values = random.choice(known if case % 3 else 256, (3, 5)).astype(np.uint8)
        space = LabelSpace(
            [str(name) for name in range(classes)],
            [(name, 0, 0) for name in range(classes)],
            file_values={int(value): own for value, own in zip(known, ids, strict=True)},
            file_colors={(int(value), 7, 7): own for value, own in zip(known, ids, strict=True)},
            encoding=encoding,
            ignore_unknown=not strict,
        )
        stored = values if encoding == "index" else np.stack([values, *[np.full_like(values, 7)] * 2], -1)
        source = split(tmp_path / str(case), {0: stored}, space=space)
        outside = not np.isin(values, known).all()
        try:
            (batch,) = module(source, source).train_dataloader()
        except UserError as error:
            assert strict
            assert outside
            assert "00_label.png" in str(error)
            refused += 1
            continue
        assert not (strict and outside)
        table = dict(zip(known.tolist(), ids, strict=True))
        expected = [[table.get(value, IGNORE_INDEX) for value in row] for row in values.tolist()]
        assert batch["label"][0].tolist() == expected
        assert batch["label"].max() == IGNORE_INDEX or batch["label"].max() < classes
        batches += 1
    assert batches >= 6
    assert refused >= 3


def test_audit_and_loader_agree_on_every_stored_value(tmp_path: Path) -> None:
    source = split(tmp_path / "train", {0: [[0, 1], [254, 255]]})
    found = audit.audit(source)
    assert set(found.unknown) == {254}
    assert found.stored == {0: 0, 1: 1, 255: IGNORE_INDEX}
