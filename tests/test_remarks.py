"""The sentence that ends a run which went wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.data.label_space import LabelSpace, distinct_colors
from src.metrics import Scores
from src.reports import console
from src.reports.remarks import closing_sentence, remark
from src.reports.run_folder import Run

NAMES = ["soil", "crop", "weed", "sky", "stone"]
GOOD = np.diag([90, 5, 5, 9, 9])
FALLING_LOSS, RISING, DONE = np.linspace(2, 0.5, 50), [0.2, 0.3, 0.4, 0.5], [0.2, 0.45, 0.5, 0.5]


def _without(*classes: int) -> np.ndarray:
    """All that is one of these is taken for soil."""
    matrix = GOOD.copy()
    for index in classes:
        matrix[index, 0], matrix[index, index] = matrix[index, index], 0
    return matrix


@pytest.mark.parametrize(
    ("matrix", "history", "words"),
    [
        (GOOD, {"steps": 5000, "val": DONE, "loss": FALLING_LOSS}, None),
        (GOOD, {"steps": 50, "val": DONE, "loss": FALLING_LOSS}, None),
        (GOOD, {}, None),
        (GOOD, {"steps": 5000, "val": [0.4, float("nan"), 0.41], "loss": []}, None),
        (np.diag([90, 0, 5, 9, 9]), {}, None),  # the truth has no crop either
        (np.empty((0, 0)), {"steps": 9}, None),
        (_without(1), {"steps": 50}, "crop was never predicted, and 50 steps are few; train longer"),
        (_without(1), {"steps": 5000}, "crop was never predicted; weigh classes"),
        (_without(1), {}, "crop was never predicted; weigh classes"),
        (_without(1, 2), {"steps": 5000}, "crop and weed were never predicted"),
        (_without(1, 2, 3), {"steps": 5000}, "crop, weed and sky were never predicted"),
        (_without(1, 2, 3, 4), {"steps": 50}, "only soil was ever predicted, and 50 steps are few; train longer"),
        (GOOD, {"steps": 5000, "val": RISING}, "validation was still getting better at the end; train longer"),
        (GOOD, {"steps": 5000, "val": RISING[::-1]}, "the first validation was the best; try a lower optimizer.lr"),
        (GOOD, {"steps": 5000, "loss": [2.0] * 50}, "the training loss did not fall; try a lower optimizer.lr"),
        (GOOD, {"steps": 8, "loss": [2.0] * 8}, None),  # too short to tell
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(matrix: np.ndarray, history: dict, words: str | None) -> None:
    found = closing_sentence(NAMES, matrix, **history)
    assert found is None if words is None else found.startswith(f"note: {words}")


def test_many_missing_classes_are_counted() -> None:
    names = [f"c{index}" for index in range(9)]
    matrix = np.zeros((9, 9), int)
    matrix[:, :2] = 5
    assert closing_sentence(names, matrix).startswith("note: c2, c3, c4 and 4 more were never predicted;")


@pytest.mark.parametrize("content", [{}, {"classes": NAMES}, {"confusion_matrix": GOOD.tolist()}])
def test_scores_without_classes_or_matrix_have_none(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "scores_test.json").write_text(json.dumps({"miou": 0.5, **content}))
    assert remark(Run(tmp_path)) is None


def test_a_run_folder_ends_with_it_and_a_debug_run_does_not(tmp_path: Path) -> None:
    content = {"classes": NAMES, "confusion_matrix": _without(1).tolist(), "miou": 0.5}
    (tmp_path / "scores_test.json").write_text(json.dumps(content))
    (tmp_path / "metrics.csv").write_text("step,train/loss\n50,1.0\n")
    assert "crop was never predicted, and 50 steps are few" in remark(Run(tmp_path))
    (tmp_path / "config.yaml").write_text("trainer: {limit_train_batches: 1, limit_test_batches: 1}\n")
    assert remark(Run(tmp_path)) is None


def test_it_stands_below_the_last_table_and_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "draw_scores", lambda *_: None)
    (tmp_path / "metrics.csv").write_text("step,train/loss\n50,1.0\n")
    space = LabelSpace(NAMES, distinct_colors(len(NAMES)))
    for matrix, words in ((_without(1), "crop was never predicted, and 50 steps are few"), (GOOD, "never predicted")):
        console.scores(Scores(torch.from_numpy(matrix)), space, tmp_path, stage="test", seconds=1.0)
        console.pictures(Scores(torch.from_numpy(matrix)), space, tmp_path, stage="test")
        said, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
        assert (words in said.splitlines()[-1]) == (words in page) == (matrix is not GOOD)
