"""Which options a first training is proposed with."""

from __future__ import annotations

import shlex
from typing import Any

from src.commands.proposal import Given, command_line, proposed

GIB = 2**30


def options(*overrides: str, sizes: Any = ((1296, 966, 60),), **facts: Any) -> dict[str, str]:
    given = Given(overrides, sum(size[2] for size in sizes), sizes, memory=16 * GIB, **facts)
    return dict(item.split("=", 1) for item, reason in proposed(given) if reason)


def test_large_photos_on_a_cpu_are_shrunk_for_training_and_scores_alike() -> None:
    assert options() == {
        "transforms.long_edge": "640",
        "data.eval_long_edge": "640",
        "data.crop_size": "[320,320]",
    }
    assert options("transforms.long_edge=800")["data.eval_long_edge"] == "800"
    assert "transforms.long_edge" not in options("data.eval_long_edge=900")


def test_a_gpu_takes_them_as_they_are() -> None:
    assert options(gpu=80 * GIB, capable=True) == {
        "data.crop_size": "[768,768]",
        "data.batch_size": "16",
        "trainer.precision": "bf16-mixed",
    }


def test_small_images_and_few_of_them() -> None:
    assert options(sizes=[(48, 40, 3)]) == {"data.crop_size": "[32,32]", "data.batch_size": "3"}
    assert options(sizes=[(200, 300, 9), (2000, 3000, 2)]) == {"data.crop_size": "[288,192]"}


def test_rare_classes() -> None:
    rare = {"shares": {"a": 0.97, "b": 0.015, "c": 0.0}, "shown": {"a": 1.0, "b": 0.1, "c": 0.0}}
    found = options(**rare)
    assert (found["data.class_weights"], found["sampler"]) == ("sqrt_median_frequency", "class_uniform")
    assert "data.class_weights" not in options(**rare, weighs=False)
    assert "sampler" not in options("sampler=shuffle", **rare)


def test_what_the_user_gave_and_recipes_stay() -> None:
    given = ["data.crop_size=[64,64]", "+data.batch_size=2", "transforms.short_side=90"]
    assert options(*given) == {}
    assert options("experiment=camvid_cpu") == {}
    assert options("experiment=binary") != {}


def test_the_command_can_be_pasted_into_a_shell() -> None:
    given = Given(["data=folder", "data.root=my photos", "data.classes={a: [1,2,3]}", "limit=3", "budget=1m"], 9, [])
    line = command_line(given, ["data.crop_size=[64,64]"], "1m")
    assert shlex.split(line) == [
        "python", "-m", "src.train", "data=folder", "data.root=my photos", "data.classes={a: [1,2,3]}",
        "data.crop_size=[64,64]", "logger=none", "budget=1m",
    ]  # fmt: skip
    assert "budget" not in command_line(given, [], None)
