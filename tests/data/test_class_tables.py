"""The long class tables: what each must be, and facts that a slip of one line would break."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.data.label_space import LabelSpace
from src.data.sets import class_tables
from src.data.sets.class_tables import class_table

TABLES = sorted(path.stem for path in (Path(class_tables.__file__).parent / "tables").glob("*.txt"))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_a_label_space_that_reaches_every_class(name: str) -> None:
    table = class_table(name)
    space = LabelSpace(table.names, table.colors, file_values=table.values)  # refuses names that occur twice
    assert all(len(color) == 3 and min(color) >= 0 and max(color) <= 255 for color in space.colors)
    assert set(table.values.values()) - {255} == set(range(space.num_classes))
    assert all(name == name.strip() for name in table.names)


@pytest.mark.parametrize(
    ("name", "count", "facts"),
    [
        ("mapillary_v1_2", 65, {0: "Bird", 13: "Road", 30: "Vegetation", 55: "Car", 64: "Ego Vehicle"}),
        ("mapillary_v2_0", 116, {3: "Concrete Block", 21: "Road", 61: "Sky", 108: "Car", 117: "Water Valve"}),
        ("coco_stuff", 171, {0: "person", 2: "car", 89: "toothbrush", 91: "banner", 156: "sky-other", 181: "wood"}),
        ("ade20k", 150, {1: "wall", 3: "sky", 13: "person", 21: "car", 150: "flag"}),
    ],
)
def test_stored_values_stand_for_the_published_classes(name: str, count: int, facts: dict[int, str]) -> None:
    table = class_table(name)
    assert len(table.names) == count
    assert {value: table.names[table.values[value]] for value in facts} == facts


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("mapillary_v1_2", {65}),
        ("mapillary_v2_0", {2, 31, 38, 79, 86, 96, 115, 123}),  # what is ambiguous, in groups, or unlabelled
        ("coco_stuff", {255}),
        ("ade20k", {0}),
    ],
)
def test_what_is_not_scored_is_ignored_and_the_rest_keeps_its_order(name: str, ignored: set[int]) -> None:
    values = class_table(name).values
    assert {value for value, train_id in values.items() if train_id == 255} == ignored
    scored = [values[value] for value in sorted(values) if value not in ignored]
    assert scored == list(range(len(scored)))


def test_mapillary_colours_tell_classes_apart_in_v1_2_but_not_in_v2_0() -> None:
    first, second = class_table("mapillary_v1_2"), class_table("mapillary_v2_0")
    assert len(set(first.colors)) == 65
    assert sum(color == (255, 255, 255) for color in second.colors) == 9
    assert second.colors[second.names.index("Road")] == first.colors[first.names.index("Road")] == (128, 64, 128)


def test_coco_stuff_leaves_eleven_ids_out() -> None:
    assert set(range(182)) - set(class_table("coco_stuff").values) == {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
