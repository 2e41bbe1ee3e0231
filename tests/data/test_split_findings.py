"""What is found only by looking at all splits together."""

from __future__ import annotations

from typing import Any

from src.data.doctor.audit import AuditSummary
from src.data.doctor.duplicates import Leak
from src.data.doctor.split_checks import Plan, notes_between, problems_between

STAGES = {"train": ["train"], "val": ["val"], "test": ["val"]}


def looked(label_images: list[int], *sizes: tuple[int, int], labelled: int = 40, total: int = 40) -> AuditSummary:
    counted = [(*size, 2) for size in sizes or [(64, 32)]]
    return AuditSummary(total, total, labelled, counted, label_images, [], [], "")


def plan(**options: Any) -> Plan:
    return Plan(**{"stages": STAGES, "classes": ("a", "b", "c"), **options})


def test_sound_splits_give_no_word() -> None:
    found = {"train": looked([4, 4, 1]), "val": looked([4, 1, 1])}
    assert problems_between(plan(), found) == notes_between(plan(), found) == []


def test_classes_that_one_side_lacks() -> None:
    notes = notes_between(plan(), {"train": looked([4, 0, 1]), "val": looked([4, 2, 0])})
    assert len(notes) == 2
    assert notes[0].startswith("b: in val but never in train, so no net can learn it")
    assert notes[1].startswith("c: in train but never in val, so it is not scored")
    assert all("data.seed=1" in note for note in notes)
    two = plan(stages={"train": ["train", "more"], "val": ["val"]})
    found = {"train": looked([4, 0, 0]), "more": looked([0, 1, 0]), "val": looked([4, 1, 0])}
    assert notes_between(two, found) == []


def test_unlabelled_or_unreadable_splits_lack_no_class() -> None:
    assert notes_between(plan(), {"train": looked([4, 4, 4])}) == []
    assert notes_between(plan(), {"train": looked([4, 4, 4]), "val": looked([0, 0, 0], labelled=0)}) == []


def test_training_and_validation_need_labels() -> None:
    bare = looked([0, 0, 0], labelled=0)
    stages = {"train": ["train"], "val": ["val"], "test": ["test"]}
    problems = problems_between(plan(stages=stages), {"train": looked([1, 1, 1]), "val": bare, "test": bare})
    assert problems == ["val: no sample has a label; name a labelled split, data.splits.val=[...]"]


def test_a_stage_without_a_split_is_a_problem() -> None:
    (problem,) = problems_between(plan(stages={"train": ["train"], "val": []}), {"train": looked([4, 4, 4])})
    assert "data.splits.val=[val]" in problem


def test_a_split_that_is_trained_on_and_scored() -> None:
    stages = {"train": ["train", "val"], "val": ["val"]}
    notes = notes_between(plan(stages=stages), {"train": looked([4, 4, 4]), "val": looked([4, 4, 0])})
    assert len(notes) == 1
    assert "set data.splits.train=[train]" in notes[0]


def test_sizes_that_cannot_be_one_batch() -> None:
    found = {"train": looked([1, 1, 1]), "val": looked([1, 1, 1], (64, 32), (60, 32))}
    assert problems_between(plan(), found) == []
    (sentence,) = problems_between(plan(eval_batch_size=4), found)
    assert "data.eval_batch_size=4" in sentence
    assert "64x32, 60x32" in sentence
    assert sentence.endswith("set data.eval_batch_size=1")


def test_a_crop_larger_than_images_that_are_not_padded() -> None:
    found = {"train": looked([1, 1, 1], (64, 32), (128, 64)), "val": looked([1, 1, 1])}
    options = {"crop_size": (32, 64), "scale": (0.5, 2.0), "pad": False}
    (sentence,) = problems_between(plan(**options), found)
    assert "crop_size=[32, 64] at scale 0.5 needs 128x64 pixels but 2 of 40 images of train" in sentence
    assert "such as 64x32" in sentence
    assert "transforms.pad=true" in sentence
    assert problems_between(plan(**options | {"scale": (1.0, 2.0)}), found) == []
    assert problems_between(plan(**options | {"pad": True}), found) == []


def test_a_crop_that_is_always_padded() -> None:
    found = {"train": looked([1, 1, 1], (48, 40)), "val": looked([1, 1, 1])}
    (note,) = notes_between(plan(crop_size=(512, 512), scale=(0.5, 2.0)), found)
    assert "larger than every image of train that was looked at, even at scale 2" in note
    assert "data.crop_size=[40,48]" in note
    assert notes_between(plan(crop_size=(80, 96), scale=(0.5, 2.0)), found) == []


def test_a_few_copies_are_a_note_and_many_a_problem() -> None:
    sound = {"train": looked([1, 1, 1]), "val": looked([1, 1, 1])}
    few = {("train", "val"): Leak(500, 1, [("t/a.png", "v/b.png")], 0, [])}
    assert problems_between(plan(), sound, few) == []
    (note,) = notes_between(plan(), sound, few)
    assert note.startswith("v/b.png is a copy of t/a.png (1 of 500 images of val are in train)")
    many = {("train", "val"): Leak(500, 50, [("t/a.png", "t/a.png")], 0, [])}
    assert notes_between(plan(), sound, many) == []
    (problem,) = problems_between(plan(), sound, many)
    assert problem.startswith("t/a.png is a training image too (50 of 500")
    assert "'data.splits_files={train: train.txt, val: val.txt}'" in problem


def test_names_that_occur_twice() -> None:
    sound = {"train": looked([1, 1, 1]), "val": looked([1, 1, 1])}
    (note,) = notes_between(plan(), sound, {("train", "val"): Leak(9, 0, [], 4, ["1", "2", "3"])})
    assert note.startswith("4 names of val occur in train too, with other content (1, 2, 3)")


def test_rare_classes_and_few_images() -> None:
    train = looked([40, 40, 40])._replace(pixels=[900, 90, 10])
    few = looked([4, 4, 4], labelled=9, total=9)
    rare, scored = notes_between(plan(), {"train": train, "val": few})
    assert rare.startswith("c 1 % of the training pixels: ")
    assert "data.class_weights=sqrt_median_frequency" in rare
    assert scored.startswith("val has 9 labelled images")
    assert "data.fractions" in scored
