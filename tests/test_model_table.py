"""docs/models.md says what the nets cost, and every published figure is met or its difference explained."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from tests.conftest import ROOT
from tests.models.meta import on_meta


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_table", ROOT / "scripts" / "model_table.py")
    module = sys.modules["model_table"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_what_the_script_writes(script: ModuleType) -> None:
    lines = list(script.rows())
    assert (ROOT / "docs" / "models.md").read_text() == script.table(lines)
    models = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert {line["model"] for line in lines} == models
    unexplained = [line for line in lines if "source" in line and not line["exact"] and not line.get("why")]
    assert unexplained == []
    assert sum(line["exact"] for line in lines) >= 50


@pytest.mark.parametrize(
    ("model", "num_classes", "params"),
    [("fcn32s", 21, 134_346_581), ("deeplab_v1", 21, 20_505_429), ("hrnet_ocr", 19, 70_372_678)],
)
def test_parameters_are_counted_exactly(script: ModuleType, model: str, num_classes: int, params: int) -> None:
    with on_meta():
        assert script.measure(model, num_classes, (64, 96)).params == params


def test_auxiliary_heads_cost_only_where_they_are_asked_for(script: ModuleType) -> None:
    with on_meta():
        without = script.measure("fcn_torchvision", 21, (64, 96))
        assert script.measure("fcn_torchvision", 21, (64, 96), with_aux=True).macs > without.macs
    assert without.params - without.params_without_aux == 54_314_346 - 51_949_141
