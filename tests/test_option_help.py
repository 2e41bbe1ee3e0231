"""``--help NAME`` says what an option may be, by the schema that refuses what it may not be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from src.cli.option_help import remarks
from tests.conftest import call

Asked = Callable[..., str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path) -> Asked:
    def run(name: str, *words: str) -> str:
        monkeypatch.chdir(tmp_path)
        try:
            call(name, *words, task=lambda _: pytest.fail("it ran"))
        except SystemExit as end:
            assert end.code == 1
        assert not list(tmp_path.iterdir())
        out, err = capsys.readouterr()
        return out + err

    return run


def test_an_option_is_shown_with_its_value_range_and_remark(asked: Asked) -> None:
    said = asked("train", "optimizer=sgd", "--help", "optimizer.lr")
    assert said.startswith("  optimizer.lr=0.05  a number of 0 or more  (")
    assert remarks("optimizer/sgd")["lr"] in said


def test_a_group_is_shown_whole_and_a_last_part_is_found(asked: Asked) -> None:
    group = asked("train", "--help", "optimizer")
    assert [line.split("=")[0].strip() for line in group.splitlines() if "=" in line.split("  (")[0]][:3] == [
        "optimizer.lr",
        "optimizer.reference_batch",
        "optimizer.weight_decay",
    ]
    assert "trainer.precision=32-true" in asked("train", "--help", "precision")


def test_what_is_built_is_described_by_its_signature(asked: Asked) -> None:
    said = asked("train", "model=deeplab_v3", "--help", "model.net.image_pooling", "model.net.backbone.output_stride")
    assert "model.net.image_pooling=last" in said
    assert "last or first, or null" in said
    assert remarks("model/deeplab_v3")["net.backbone.output_stride"] in said


def test_commands_on_a_checkpoint_need_none_to_explain(asked: Asked) -> None:
    said = asked("predict", "-h", "huge", "inference.scales")
    assert "a multiple of 256 pixels" in said
    assert "inference.scales=[1.0]" in said
    assert "a list of factors above 0" in said
    assert "executor=local" in asked("sweep", "--help", "executor")


def test_a_name_that_is_none_is_refused_with_the_nearest(asked: Asked) -> None:
    assert "error: optimiser.lr: there is no such option. Did you mean 'optimizer.lr'?" in asked(
        "train", "--help", "optimiser.lr"
    )
